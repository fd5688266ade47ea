//! A reader of Thrift's compact protocol, just enough to look into page headers and footers before the `parquet`
//! crate does: sizes and counts, so that absurd claims are refused before anything is allocated for them.
//!
//! Every read is bounded by the slice; `None` means that the slice ended or is not compact Thrift.

/// Structures inside structures; Parquet's own nest less than ten deep.
const MAX_NESTING: usize = 32;

/// A position in compact Thrift bytes.
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Wire types that are told apart here.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

impl<'a> Compact<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Compact<'a> {
        Compact { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        let end = usize::try_from(count).ok().and_then(|c| self.at.checked_add(c))?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A zigzag integer of any width.
    pub(super) fn integer(&mut self) -> Option<i64> {
        self.varint().map(|v| (v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// The element type and length of a list.
    pub(super) fn list(&mut self) -> Option<(u8, u64)> {
        let head = self.byte()?;
        let short = u64::from(head >> 4);
        Some((head & 0x0f, if short == 15 { self.varint()? } else { short }))
    }

    /// Visits the fields of a structure: `field` gets number and wire type, and returns whether it read the value;
    /// what it did not read is skipped.
    pub(super) fn structure(&mut self, mut field: impl FnMut(&mut Self, i16, u8) -> Option<bool>) -> Option<()> {
        let mut last = 0i16;
        while let Some((number, wire)) = self.field(last)? {
            last = number;
            if !field(self, number, wire)? {
                self.skip(wire, 0)?;
            }
        }
        Some(())
    }

    /// The next field's number and wire type; `None` inside for the end of the structure.
    fn field(&mut self, last: i16) -> Option<Option<(i16, u8)>> {
        let head = self.byte()?;
        let wire = head & 0x0f;
        if wire == STOP {
            return Some(None);
        }
        let number = match head >> 4 {
            0 => i16::try_from(self.integer()?).ok()?,
            delta => last.checked_add(i16::from(delta))?,
        };
        Some(Some((number, wire)))
    }

    /// Skips one value.
    pub(super) fn skip(&mut self, wire: u8, nesting: usize) -> Option<()> {
        if nesting > MAX_NESTING {
            return None;
        }
        match wire {
            TRUE | FALSE => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | 10 => {
                let (element, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(element, nesting))
            }
            STRUCT => {
                let mut last = 0;
                while let Some((number, wire)) = self.field(last)? {
                    last = number;
                    self.skip(wire, nesting + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Inside a list a boolean takes a byte of its own.
    fn skip_element(&mut self, element: u8, nesting: usize) -> Option<()> {
        match element {
            TRUE | FALSE => self.advance(1),
            other => self.skip(other, nesting + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_visited_and_unknown_ones_skipped() {
        // 1: i32 = 3; 2: binary "ab"; 5: i32 = -1; stop
        let bytes = [0x15, 6, 0x18, 2, b'a', b'b', 0x35, 1, 0];
        let mut seen = Vec::new();
        let mut reader = Compact::new(&bytes);
        let done = reader.structure(|r, number, wire| {
            if wire == 5 {
                seen.push((number, r.integer()?));
                return Some(true);
            }
            Some(false)
        });
        assert_eq!((done, reader.position()), (Some(()), bytes.len()));
        assert_eq!(seen, [(1, 3), (5, -1)]);
    }

    #[test]
    fn bytes_that_end_early_or_claim_too_much_are_refused() {
        assert_eq!(Compact::new(&[0x15]).structure(|_, _, _| Some(false)), None);
        assert_eq!(Compact::new(&[0x18, 0xff, 0xff, 0xff, 0x7f, 0]).structure(|_, _, _| Some(false)), None);
        assert_eq!(Compact::new(&[0x1c; 100]).structure(|_, _, _| Some(false)), None, "nested for ever");
    }
}
