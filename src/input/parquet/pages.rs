//! Looks at page headers before the `parquet` crate unpacks the pages, so that memory stays bounded.
//!
//! Bounded here: a page may claim at most [`MAX_PAGE_BYTES`] unpacked; a page or dictionary cannot claim more values
//! than its column or its bytes can hold; a gzip page large enough to unpack to more than the limit is unpacked once
//! without keeping it, because the crate unpacks gzip to its end whatever the header says. The other codecs stop at
//! the claimed size, except Brotli: a forged Brotli page is not bounded by anything but its own stream.
//!
//! Cost: one small read for each page of the columns that are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

use super::compact::{Compact, STRUCT};

/// The largest page that is unpacked, in bytes.
pub(super) const MAX_PAGE_BYTES: i64 = 1 << 30;

/// Deflate cannot pack better than this.
const MAX_DEFLATE_RATIO: u64 = 1_032;

/// How much is read to find a page header, and how far that grows where statistics make a header long.
const FIRST_WINDOW: usize = 4 << 10;
const LAST_WINDOW: usize = 16 << 20;

/// What a page header claims.
#[derive(Debug, Default, PartialEq, Eq)]
struct PageHead {
    /// Bytes of the header itself.
    length: u64,
    unpacked: i64,
    packed: i64,
    values: i64,
    is_dictionary: bool,
    /// Bytes of a version 2 page that are never packed.
    levels: i64,
}

/// Checks the pages of a column chunk that lies at `start..start + length` of the file.
pub(super) fn check(file: &mut File, chunk: &ColumnChunkMetaData) -> Result<(), String> {
    let (start, length) = range(chunk).ok_or("its place in the file is negative")?;
    let end = start.saturating_add(length);
    let (mut at, mut values) = (start, 0i64);
    while at < end && values < chunk.num_values() {
        let head = read_head(file, at, end)?;
        let body = at + head.length;
        head.check(end.saturating_sub(body), chunk.num_values())?;
        if matches!(chunk.compression(), Compression::GZIP(_)) {
            check_gzip(file, body, &head).map_err(|e| e.to_string())??;
        }
        if !head.is_dictionary {
            values += head.values;
        }
        at = body + head.packed as u64;
    }
    Ok(())
}

/// Where a column chunk lies: first byte and length.
pub(super) fn range(chunk: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    Some((u64::try_from(start).ok()?, u64::try_from(chunk.compressed_size()).ok()?))
}

impl PageHead {
    fn check(&self, left: u64, chunk_values: i64) -> Result<(), String> {
        if self.packed < 0 || self.packed as u64 > left {
            return Err(format!("a page claims {} bytes where {left} are left", self.packed));
        }
        if !(0..=MAX_PAGE_BYTES).contains(&self.unpacked) {
            return Err(format!(
                "a page claims to unpack to {} bytes; at most {MAX_PAGE_BYTES} are read",
                self.unpacked
            ));
        }
        let most = if self.is_dictionary { self.unpacked } else { chunk_values };
        if !(0..=most).contains(&self.values) {
            return Err(format!("a page claims {} values where {most} are possible", self.values));
        }
        Ok(())
    }
}

fn read_head(file: &mut File, at: u64, end: u64) -> Result<PageHead, String> {
    let mut window = FIRST_WINDOW;
    loop {
        let mut bytes = Vec::with_capacity(window);
        let wanted = (end - at).min(window as u64);
        let read = read_at(file, at, wanted, &mut bytes).map_err(|e| e.to_string())?;
        if let Some(head) = parse_head(&bytes) {
            return Ok(head);
        }
        if read < window as u64 || window >= LAST_WINDOW {
            return Err(format!("no page header at byte {at}"));
        }
        window *= 16;
    }
}

fn read_at(file: &mut File, at: u64, length: u64, out: &mut Vec<u8>) -> io::Result<u64> {
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(out).map(|read| read as u64)
}

/// The fields of `PageHeader` in parquet.thrift that sizes depend on.
fn parse_head(bytes: &[u8]) -> Option<PageHead> {
    let mut head = PageHead::default();
    let mut reader = Compact::new(bytes);
    reader.structure(|reader, field, wire| {
        match (field, wire) {
            (2, 5) => head.unpacked = reader.integer()?,
            (3, 5) => head.packed = reader.integer()?,
            (5 | 7 | 8, STRUCT) => {
                head.is_dictionary = field == 7;
                let version_2 = field == 8;
                reader.structure(|reader, field, wire| {
                    match (field, wire) {
                        (1, 5) => head.values = reader.integer()?,
                        (5 | 6, 5) if version_2 => head.levels = head.levels.checked_add(reader.integer()?)?,
                        _ => return Some(false),
                    }
                    Some(true)
                })?;
            }
            _ => return Some(false),
        }
        Some(true)
    })?;
    head.length = reader.position() as u64;
    Some(head)
}

/// Unpacks a gzip page to nowhere where it could unpack to more than the limit.
fn check_gzip(file: &mut File, body: u64, head: &PageHead) -> io::Result<Result<(), String>> {
    let packed = head.packed as u64;
    if packed.saturating_mul(MAX_DEFLATE_RATIO) <= MAX_PAGE_BYTES as u64 || head.levels < 0 {
        return Ok(Ok(()));
    }
    file.seek(SeekFrom::Start(body.saturating_add(head.levels as u64)))?;
    let stream = io::BufReader::new(file.take(packed.saturating_sub(head.levels as u64)));
    let claimed = head.unpacked as u64;
    // A page that is not packed after all fails here and is left to the crate.
    let unpacked = io::copy(&mut flate2::bufread::MultiGzDecoder::new(stream).take(claimed + 1), &mut io::sink());
    match unpacked {
        Ok(size) if size > claimed => Ok(Err(format!("a page unpacks to more than the {claimed} bytes it claims"))),
        _ => Ok(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// type = data page, unpacked, packed, then a data page header with its number of values.
    fn header(unpacked: u8, packed: u8, values: u8) -> Vec<u8> {
        vec![0x15, 0, 0x15, unpacked << 1, 0x15, packed << 1, 0x2c, 0x15, values << 1, 0, 0]
    }

    #[test]
    fn a_header_is_read_to_its_end() {
        let bytes = [header(40, 20, 7), vec![0xff; 9]].concat();
        let head = parse_head(&bytes).unwrap();
        assert_eq!(head, PageHead { length: 11, unpacked: 40, packed: 20, values: 7, is_dictionary: false, levels: 0 });
        assert_eq!(parse_head(&bytes[..10]), None);
    }

    #[test]
    fn absurd_claims_are_refused() {
        let head = parse_head(&header(40, 20, 7)).unwrap();
        assert_eq!(head.check(20, 7), Ok(()));
        assert!(head.check(19, 7).unwrap_err().contains("claims 20 bytes where 19 are left"));
        assert!(head.check(20, 6).unwrap_err().contains("claims 7 values"));
        let bomb = PageHead { unpacked: MAX_PAGE_BYTES + 1, ..head };
        assert!(bomb.check(20, 7).unwrap_err().contains("unpack"));
    }

    /// Bytes that deflate cannot pack.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(length)
        .collect()
    }

    #[test]
    fn a_gzip_page_that_unpacks_to_more_than_it_claims_is_refused() {
        use std::io::Write;
        let content = noise(3 << 19);
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&content).unwrap();
        let packed = packer.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&packed).unwrap();
        let mut check = |unpacked: usize| {
            let head = PageHead { packed: packed.len() as i64, unpacked: unpacked as i64, ..PageHead::default() };
            check_gzip(&mut file, 0, &head).unwrap()
        };
        assert_eq!(check(content.len()), Ok(()));
        assert!(check(content.len() - 1).unwrap_err().contains("unpacks to more than"));
    }
}
