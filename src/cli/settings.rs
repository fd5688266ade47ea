//! What the user typed → what the program will do. Everything that can be wrong with a flag is wrong here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use jiff::tz::TimeZone;
use serde::Deserialize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::args::{
    CheckArgs, ClockArg, CompressionArg, EpochUnitArg, EscapeArg, FormatArg, InputArgs, InputFormatArg, OnMissingArg,
    RenderArgs, RunArgs,
};
use crate::campaigns::LoadOptions;
use crate::delivery::{Compression, DeliveryOptions, Format, MAX_SEGMENT_BYTES, path_segment};
use crate::eligibility::{Clock, parse_duration_seconds};
use crate::error::{Error, IoContext, Kind, Result, nearest};
use crate::input::{InputFormat, InputOptions, Mapping, PropertiesFrom};
use crate::interrupt::Interrupt;
use crate::pipeline::Memory;
use crate::runs::{CheckSettings, Guards, MaxBad, RenderSettings, RenderWhat, RunSettings, StateUse};
use crate::templates::{Escape, OnMissing};
use crate::triggers::{EpochUnit, MICROS_PER_SECOND, Micros, Recipient, RecipientKind, TimeReader};

/// Bytes of one NDJSON split. Small, since what a split writes is held in memory and a line of two bytes is a rejected row.
const SPLIT_BYTES: u64 = 1 << 20;

/// Rows of one Parquet split.
const SPLIT_ROWS: usize = 32_768;

fn usage(summary: impl Into<String>) -> Error {
    Error::new(Kind::Usage, summary)
}

/// The settings of `run`. `now` is the default of `--as-of`; `new_state_id` names a state that the run creates.
pub fn run(args: &RunArgs, now: Micros, new_state_id: u128) -> Result<RunSettings> {
    let input = input(&args.reading)?;
    let time = |flag: &str, text: &Option<String>| text.as_ref().map(|t| time(&input.times, flag, t)).transpose();
    let as_of = time("--as-of", &args.as_of)?;
    let (since, until) = (time("--since", &args.since)?, time("--until", &args.until)?);
    let max_age = args.max_age.as_ref().map(|text| duration("--max-age", text)).transpose()?;
    if args.run_id.as_deref().is_some_and(|id| id.is_empty() || path_segment(id).len() > MAX_SEGMENT_BYTES) {
        let summary = format!("`--run-id` must name a folder of 1 to {MAX_SEGMENT_BYTES} bytes");
        return Err(usage(summary).hint("letters other than ASCII take 6 to 12 bytes each"));
    }
    let delivery = delivery(args);
    delivery.check()?;
    let clock = if args.record_only { Clock::Event } else { clock(args.clock) };
    Ok(RunSettings {
        campaigns: args.campaigns.clone(),
        load: LoadOptions { only: args.only.clone(), skip_broken: args.skip_broken },
        inputs: args.input.clone(),
        out: args.out.clone(),
        state: match &args.state {
            Some(path) => StateUse::Folder { path: path.clone(), create: args.create_state },
            None => StateUse::Stateless,
        },
        delivery,
        clock,
        as_of: as_of.unwrap_or(now),
        as_of_given: as_of.is_some(),
        now,
        max_age_micros: max_age.map(|age| age.as_secs() as i64 * MICROS_PER_SECOND),
        since,
        until,
        default_time_is_as_of: args.default_triggered_at.is_some(),
        max_bad: args.max_bad.as_deref().map(max_bad).transpose()?,
        run_id: args.run_id.clone(),
        exclude: args.exclude.clone(),
        guards: guards(args)?,
        dry_run: args.dry_run,
        hold: args.hold,
        wait_lock: wait_lock(&args.wait_lock)?,
        record_only: args.record_only,
        allow_consumed: args.allow_consumed,
        memory: args.memory.as_deref().map_or_else(|| Ok(default_memory()), memory)?,
        new_state_id,
        input,
    })
}

/// The settings of `check`, and whether to print JSON.
pub fn check(args: &CheckArgs) -> Result<(CheckSettings, bool)> {
    let load = LoadOptions { only: args.only.clone(), skip_broken: false };
    let (campaigns, inputs) = (args.campaigns.clone(), args.input.clone());
    Ok((CheckSettings { campaigns, load, inputs, input: input(&args.reading)? }, args.json))
}

/// The settings of `render`.
pub fn render(args: &RenderArgs) -> Result<RenderSettings> {
    let what = match (&args.template, &args.campaign, &args.data) {
        (Some(template), None, Some(data)) => RenderWhat::Template {
            escape: args.escape.map_or_else(|| escape_by_name(template), escape),
            template: template.clone(),
            data: data.clone(),
            on_missing: match args.on_missing {
                OnMissingArg::Blank => OnMissing::Blank,
                OnMissingArg::Fail => OnMissing::Fail,
            },
        },
        (None, Some(campaign), _) => {
            let (inputs, limit) = (args.input.clone(), args.limit);
            RenderWhat::Campaign { campaign: campaign.clone(), inputs, input: Box::new(input(&args.reading)?), limit }
        }
        _ => return Err(usage("give `--template FILE --data FILE.json`, or `--campaign DIR --input FILE`")),
    };
    Ok(RenderSettings { what })
}

fn escape(escape: EscapeArg) -> Escape {
    match escape {
        EscapeArg::Html => Escape::Html,
        EscapeArg::Json => Escape::Json,
        EscapeArg::None => Escape::None,
    }
}

fn escape_by_name(template: &Path) -> Escape {
    let name = template.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match name {
        _ if name.ends_with(".html.hbs") || name.ends_with(".html") => Escape::Html,
        _ if name.ends_with(".json.hbs") => Escape::Json,
        _ => Escape::None,
    }
}

/// A clock.
pub fn clock(clock: ClockArg) -> Clock {
    match clock {
        ClockArg::Run => Clock::Run,
        ClockArg::Event => Clock::Event,
    }
}

fn delivery(args: &RunArgs) -> DeliveryOptions {
    let format = match args.format {
        FormatArg::Parquet => Format::Parquet,
        FormatArg::Ndjson => Format::Ndjson,
    };
    let compression = match args.compression {
        Some(CompressionArg::Zstd) => Compression::Zstd,
        Some(CompressionArg::Snappy) => Compression::Snappy,
        Some(CompressionArg::Gzip) => Compression::Gzip,
        Some(CompressionArg::None) => Compression::None,
        None if format == Format::Ndjson => Compression::None,
        None => Compression::Zstd,
    };
    DeliveryOptions { format, compression, batch_size: args.batch_size }
}

/// The instant of a flag.
pub fn time(times: &TimeReader, flag: &str, text: &str) -> Result<Micros> {
    times.text(text).map_err(|wrong| usage(format!("`{flag} {text}`: expected {}", wrong.expected)))
}

/// How long to wait for a lock.
pub fn wait_lock(text: &str) -> Result<Duration> {
    duration("--wait-lock", text)
}

/// The duration of a flag.
pub fn duration(flag: &str, text: &str) -> Result<Duration> {
    parse_duration_seconds(text).map(Duration::from_secs).map_err(|why| usage(format!("`{flag}`: {why}")))
}

fn guards(args: &RunArgs) -> Result<Guards> {
    let marker = args.require_marker.clone();
    if marker.as_deref().is_some_and(|name| name.is_empty() || name.contains('/')) {
        return Err(usage("`--require-marker` must be the name of a file, such as `_SUCCESS`"));
    }
    Ok(Guards {
        expect_triggers: args.expect_triggers.as_deref().map(expect_triggers).transpose()?,
        require_marker: marker,
        locked: args.locked,
        max_change: args.max_change.as_deref().map(max_change).transpose()?,
        accept_change: args.accept_change.clone(),
    })
}

/// `MIN..MAX`, both included; either may be left out.
fn expect_triggers(text: &str) -> Result<(u64, u64)> {
    let wrong = || usage(format!("`--expect-triggers {text}`: expected a range such as `1000..5000` or `1000..`"));
    let (fewest, most) = text.split_once("..").filter(|(a, b)| !(a.is_empty() && b.is_empty())).ok_or_else(wrong)?;
    let bound = |text: &str, open: u64| if text.is_empty() { Ok(open) } else { text.parse().map_err(|_| wrong()) };
    let range = (bound(fewest, 0)?, bound(most, u64::MAX)?);
    if range.0 <= range.1 { Ok(range) } else { Err(wrong()) }
}

fn max_change(text: &str) -> Result<f64> {
    let points = text.strip_suffix('%').and_then(|points| points.parse().ok());
    points
        .filter(|points| (0.0..=100.0).contains(points))
        .ok_or_else(|| usage(format!("`--max-change {text}`: expected percentage points such as `5%`")))
}

/// `--max-bad`.
pub fn max_bad(text: &str) -> Result<MaxBad> {
    let wrong = || usage(format!("`--max-bad {text}`: expected a number such as `100` or a share such as `0.5%`"));
    match text.strip_suffix('%') {
        Some(share) => match share.parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => Ok(MaxBad::Percent(share)),
            _ => Err(wrong()),
        },
        None => text.parse().map(MaxBad::Count).map_err(|_| wrong()),
    }
}

/// `--memory`.
pub fn memory(text: &str) -> Result<u64> {
    let wrong = |why: String| usage(format!("`--memory {text}`: {why}"));
    let size: ByteSize = text.parse().map_err(|_| wrong("expected a size such as `512MiB` or `4GB`".to_owned()))?;
    if size.as_u64() < Memory::LEAST {
        return Err(wrong(format!("a run needs at least {}MiB", Memory::LEAST >> 20)));
    }
    Ok(size.as_u64())
}

/// Memory that a worker thread takes while it reads, renders and encodes, at most in ordinary runs.
const THREAD_BYTES: u64 = 64 << 20;

/// Worker threads: as many as asked for, or else one a core, as far as there is memory for them.
pub fn threads(asked: Option<NonZeroUsize>, memory: u64) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let fitting = usize::try_from(memory / THREAD_BYTES).unwrap_or(usize::MAX).max(1);
    asked.map_or_else(|| cores().min(fitting), NonZeroUsize::get)
}

/// Three quarters of the machine's memory, or of what the control group of this process may take.
pub fn default_memory() -> u64 {
    let system =
        System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    let there = match system.cgroup_limits() {
        Some(limits) => limits.total_memory.min(system.total_memory()),
        None => system.total_memory(),
    };
    // A system that does not tell has no ceiling.
    if there == 0 { u64::MAX } else { (there / 4 * 3).max(Memory::LEAST) }
}

/// `--mapping FILE.json`: the same names as the flags, which override it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingFile {
    #[serde(default)]
    map: BTreeMap<String, String>,
    campaign_id: Option<String>,
    properties: Option<PropertiesInFile>,
    #[serde(default)]
    carry: Vec<String>,
    #[serde(default)]
    trigger_id_from: Vec<String>,
    body: Option<String>,
    timezone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PropertiesInFile {
    All(String),
    Columns(Vec<String>),
}

fn mapping_file(path: &Path) -> Result<MappingFile> {
    let text = std::fs::read_to_string(path).at(Kind::Usage, "read the mapping", path)?;
    let wrong = |e| usage(format!("cannot use the mapping `{}`", path.display())).caused_by(e);
    serde_json::from_str(&text).map_err(wrong)
}

/// How input is read.
pub fn input(args: &InputArgs) -> Result<InputOptions> {
    let file = args.mapping.as_deref().map(mapping_file).transpose()?.unwrap_or_default();
    let columns = columns(args, file.map)?;
    let body = args.body.clone().or(file.body);
    if body.as_deref().is_some_and(|pointer| !pointer.starts_with('/')) {
        return Err(usage("`--body` must be a JSON pointer such as `/request/body`"));
    }
    let timezone = args.timezone.as_deref().or(file.timezone.as_deref());
    let given = |flag: &Vec<String>, in_file: Vec<String>| if flag.is_empty() { in_file } else { flag.clone() };
    Ok(InputOptions {
        format: args.input_format.map(|format| match format {
            InputFormatArg::Parquet => InputFormat::Parquet,
            InputFormatArg::Ndjson => InputFormat::Ndjson,
        }),
        mapping: Mapping {
            columns,
            campaign_id: args.campaign_id.clone().or(file.campaign_id),
            properties: properties(&args.properties, file.properties)?,
        },
        body,
        times: TimeReader { zone: zone(timezone)?, epoch_unit: args.epoch_unit.map(epoch_unit) },
        carry: given(&args.carry, file.carry),
        trigger_id_from: given(&args.trigger_id_from, file.trigger_id_from),
        split_bytes: SPLIT_BYTES,
        split_rows: SPLIT_ROWS,
        interrupt: Interrupt::default(),
        spool: PathBuf::new(),
    })
}

/// Flags over the file's columns; every name must be a field's.
fn columns(args: &InputArgs, mut columns: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    for pair in &args.map {
        let Some((field, column)) = pair.split_once('=').filter(|(f, c)| !f.is_empty() && !c.is_empty()) else {
            return Err(usage(format!("`--map {pair}`: expected FIELD=COLUMN, such as `external_user_id=customer`")));
        };
        columns.insert(field.to_owned(), column.to_owned());
    }
    let Some(field) = columns.keys().find(|f| !Mapping::FIELDS.contains(&f.as_str())) else { return Ok(columns) };
    let error = usage(format!("`{field}` cannot be mapped: it is not a field of a trigger"));
    Err(error.hint(match nearest(field, Mapping::FIELDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("fields: {}", Mapping::FIELDS.join(", ")),
    }))
}

fn properties(flag: &[String], file: Option<PropertiesInFile>) -> Result<PropertiesFrom> {
    match (flag, file) {
        ([], None) => Ok(PropertiesFrom::Field),
        ([all], _) if all == "*" => Ok(PropertiesFrom::All),
        ([], Some(PropertiesInFile::All(all))) if all == "*" => Ok(PropertiesFrom::All),
        ([], Some(PropertiesInFile::All(name))) => {
            Err(usage(format!("the mapping's `properties` must be a list or `*`, found `{name}`")))
        }
        ([], Some(PropertiesInFile::Columns(names))) => Ok(PropertiesFrom::Columns(names)),
        (names, _) => Ok(PropertiesFrom::Columns(names.to_vec())),
    }
}

/// `--recipient KIND:ID`; an alias is `user_alias:LABEL:NAME`, with the label up to the first colon.
pub fn recipient(text: &str) -> Result<Recipient<'static>> {
    let named = text.split_once(':').and_then(|(kind, id)| Some((RecipientKind::from_code(kind)?, id)));
    let owned = |id: &str| Some(id.to_owned()).filter(|id| !id.trim().is_empty());
    let recipient = named.and_then(|(kind, id)| match kind {
        RecipientKind::ExternalUserId => owned(id).map(Recipient::external),
        RecipientKind::BrazeId => owned(id).map(Recipient::braze),
        RecipientKind::Email => owned(id).map(Recipient::email),
        RecipientKind::UserAlias => {
            let (label, name) = id.split_once(':')?;
            Some(Recipient::alias(owned(name)?, label.to_owned()))
        }
    });
    // What was typed may be a person's id: it is not repeated.
    recipient.ok_or_else(|| {
        usage("`--recipient`: expected KIND:ID").hint(
            "such as `external_user_id:ada`, `braze_id:…`, `email:ada@example.org` or `user_alias:LABEL:NAME`; a label \
             with a colon goes into a `--recipients` table",
        )
    })
}

fn zone(name: Option<&str>) -> Result<TimeZone> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| {
        usage(format!("`--timezone {name}`: no such time zone")).hint("use an IANA name such as `Europe/Paris`")
    })
}

fn epoch_unit(unit: EpochUnitArg) -> EpochUnit {
    match unit {
        EpochUnitArg::S => EpochUnit::Seconds,
        EpochUnitArg::Ms => EpochUnit::Millis,
        EpochUnitArg::Us => EpochUnit::Micros,
        EpochUnitArg::Ns => EpochUnit::Nanos,
    }
}
