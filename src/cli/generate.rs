//! `generate`: what the user typed over what the profile file says, and where the triggers go.
#![allow(missing_docs, reason = "private to the command line; the doc comments are its help")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args as ClapArgs, ValueEnum};

use super::print::{bytes_text, count_text, out};
use super::use_threads;
use crate::campaigns::{LoadOptions, load};
use crate::eligibility::parse_duration_seconds;
use crate::error::{Error, Kind, Result};
use crate::generate::{Arrival, Form, Generated, Profile, ProfileDraft, Share, WeightedCampaign, to_file, to_writer};
use crate::triggers::{MICROS_PER_SECOND, Micros, TimeReader};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormArg {
    /// Flat rows, properties as columns
    Parquet,
    /// Flat rows, one JSON object a line
    Ndjson,
    /// Request bodies of /campaigns/trigger/send, one a line
    Requests,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArrivalArg {
    /// As many in every second
    Uniform,
    /// Little at night, most in the evening
    Daily,
    /// Half of them in twelve bursts of ten minutes
    Bursts,
}

#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    /// File to write; `-` is NDJSON on standard output
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Form of the rows; by default told by the file's name
    #[arg(long)]
    pub form: Option<FormArg>,
    /// Replace the file where it is there
    #[arg(long)]
    pub force: bool,
    /// Worker threads; by default one a core, and the bytes are the same for any number
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// Shares are of all rows: `0.02` or `2%`. A flag overrides the same field of the profile.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Profile")]
pub struct ProfileArgs {
    /// A JSON file with any of these, and `properties`; flags override it
    #[arg(long, value_name = "FILE.json")]
    pub profile: Option<PathBuf>,
    /// Another seed makes other triggers [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Rows to make, bad ones and copies included [default: 100000]
    #[arg(long, value_name = "N")]
    pub triggers: Option<u64>,
    /// People to draw from; by default a fourth of the triggers
    #[arg(long, value_name = "N")]
    pub recipients: Option<u64>,
    /// Zipf exponent: 0 is even, at 1 the n-th recipient gets 1/n of what the first one gets [default: 0.8]
    #[arg(long, value_name = "S")]
    pub recipient_skew: Option<f64>,
    /// A campaign, and its weight among the others, such as `welcome=3`
    #[arg(long, value_name = "ID[=WEIGHT]")]
    pub campaign: Vec<String>,
    /// Trigger the campaigns of this folder, each as often
    #[arg(long, value_name = "DIR", conflicts_with = "campaign")]
    pub campaigns: Option<PathBuf>,
    /// First instant of an arrival [default: 30 days before --until, or 2026-01-01]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Arrivals end before this [default: 30 days after --from]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How arrivals lie between the two [default: uniform]
    #[arg(long)]
    pub arrival: Option<ArrivalArg>,
    /// Neighbours that share a campaign and an instant, as the recipients of one request do [default: 1]
    #[arg(long, value_name = "N")]
    pub recipients_per_request: Option<u64>,
    /// Exact copies of an earlier row
    #[arg(long, value_name = "SHARE")]
    pub duplicates: Option<String>,
    /// Rows that repeat an earlier trigger with its id, at a later time
    #[arg(long, value_name = "SHARE")]
    pub retries: Option<String>,
    /// Rows that arrive long after their trigger happened
    #[arg(long, value_name = "SHARE")]
    pub late: Option<String>,
    /// How late, at most [default: 2d]
    #[arg(long, value_name = "DURATION")]
    pub late_by: Option<String>,
    /// Rows that their neighbours have overtaken
    #[arg(long, value_name = "SHARE")]
    pub out_of_order: Option<String>,
    /// By how much, at most [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub out_of_order_by: Option<String>,
    /// Rows that a run rejects
    #[arg(long, value_name = "SHARE")]
    pub bad_rows: Option<String>,
}

fn usage(summary: impl Into<String>) -> Error {
    Error::new(Kind::Usage, summary)
}

/// Generates triggers and says what was written.
pub fn generate(args: &GenerateArgs) -> Result<u8> {
    let begun = Instant::now();
    let form = form(args)?;
    let profile = draft(&args.profile)?.finish()?;
    use_threads(args.threads.map_or(0, NonZeroUsize::get))?;
    if args.out == Path::new("-") {
        to_writer(&profile, form, &mut std::io::stdout())?;
        return Ok(0);
    }
    let generated = to_file(&profile, form, &args.out, args.force)?;
    if !args.quiet {
        out(&summary(args, &profile, generated, begun))?;
    }
    Ok(0)
}

fn summary(args: &GenerateArgs, profile: &Profile, generated: Generated, begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs_f64();
    let (first, last) = profile.period();
    let (triggers, bytes) = (count_text(generated.triggers), bytes_text(generated.bytes));
    let (first, last) = (crate::triggers::format_micros(first), crate::triggers::format_micros(last));
    format!("{triggers} triggers from {first} to {last} in {}, {bytes}, in {seconds:.2} s\n", args.out.display())
}

fn form(args: &GenerateArgs) -> Result<Form> {
    let name = args.out.to_str().unwrap_or_default();
    let by_name = if name == "-" || [".ndjson", ".jsonl", ".json"].iter().any(|end| name.ends_with(end)) {
        Some(Form::Ndjson)
    } else {
        name.ends_with(".parquet").then_some(Form::Parquet)
    };
    let asked = args.form.map(|form| match form {
        FormArg::Parquet => Form::Parquet,
        FormArg::Ndjson => Form::Ndjson,
        FormArg::Requests => Form::Requests,
    });
    match (asked.or(by_name), by_name) {
        (Some(Form::Parquet), Some(Form::Ndjson)) | (Some(Form::Ndjson | Form::Requests), Some(Form::Parquet)) => {
            let what = format!("`--form` and the name `{}` do not go together", args.out.display());
            Err(usage(what)
                .hint("a run tells the format by the name: `.parquet`, or `.ndjson` for rows and request bodies"))
        }
        (Some(form), Some(_)) => Ok(form),
        (_, None) => {
            let error = usage(format!("`--out {}`: the name does not say what the file is", args.out.display()));
            Err(error.hint("let it end in `.parquet` or `.ndjson`; to compress text, write `-` to a pipe: `… --out - | zstd > t.ndjson.zst`"))
        }
        (None, Some(form)) => Ok(form),
    }
}

/// The profile file, with the flags over it.
fn draft(args: &ProfileArgs) -> Result<ProfileDraft> {
    let file = args.profile.as_deref().map(ProfileDraft::read).transpose()?.unwrap_or_default();
    let share = |flag: &str, text: &Option<String>| text.as_deref().map(|text| share(flag, text)).transpose();
    let time = |flag: &str, text: &Option<String>| text.as_deref().map(|text| time(flag, text)).transpose();
    let duration = |flag: &str, text: &Option<String>| text.as_deref().map(|text| duration(flag, text)).transpose();
    Ok(ProfileDraft {
        seed: args.seed.or(file.seed),
        triggers: args.triggers.or(file.triggers),
        recipients: args.recipients.or(file.recipients),
        recipient_skew: args.recipient_skew.or(file.recipient_skew),
        campaigns: campaigns(args)?.or(file.campaigns),
        from: time("--from", &args.from)?.or(file.from),
        until: time("--until", &args.until)?.or(file.until),
        arrival: args.arrival.map(arrival).or(file.arrival),
        recipients_per_request: args.recipients_per_request.or(file.recipients_per_request),
        duplicates: share("--duplicates", &args.duplicates)?.or(file.duplicates),
        retries: share("--retries", &args.retries)?.or(file.retries),
        late: share("--late", &args.late)?.or(file.late),
        late_by: duration("--late-by", &args.late_by)?.or(file.late_by),
        out_of_order: share("--out-of-order", &args.out_of_order)?.or(file.out_of_order),
        out_of_order_by: duration("--out-of-order-by", &args.out_of_order_by)?.or(file.out_of_order_by),
        bad_rows: share("--bad-rows", &args.bad_rows)?.or(file.bad_rows),
        properties: file.properties,
    })
}

fn arrival(arrival: ArrivalArg) -> Arrival {
    match arrival {
        ArrivalArg::Uniform => Arrival::Uniform,
        ArrivalArg::Daily => Arrival::daily(),
        ArrivalArg::Bursts => Arrival::bursts(),
    }
}

fn campaigns(args: &ProfileArgs) -> Result<Option<Vec<WeightedCampaign>>> {
    if let Some(folder) = &args.campaigns {
        let loaded = load(folder, &LoadOptions::default())?;
        let ids = loaded.loaded.iter().map(|campaign| WeightedCampaign { id: campaign.id.clone(), weight: 1.0 });
        return Ok(Some(ids.collect()));
    }
    let given: Vec<WeightedCampaign> = args.campaign.iter().map(|text| campaign(text)).collect::<Result<_>>()?;
    Ok((!given.is_empty()).then_some(given))
}

/// `ID=WEIGHT`, or an id that weighs 1. Ids may hold `=` themselves: the last one counts.
fn campaign(text: &str) -> Result<WeightedCampaign> {
    let Some((id, weight)) = text.rsplit_once('=') else {
        return Ok(WeightedCampaign { id: text.to_owned(), weight: 1.0 });
    };
    match weight.parse() {
        Ok(weight) => Ok(WeightedCampaign { id: id.to_owned(), weight }),
        Err(_) => Err(usage(format!("`--campaign {text}`: expected ID=WEIGHT, such as `welcome=3`"))),
    }
}

fn share(flag: &str, text: &str) -> Result<Share> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let share = number.ok().and_then(Share::new);
    share.ok_or_else(|| usage(format!("`{flag} {text}`: expected a share of all rows such as `0.02` or `2%`")))
}

fn time(flag: &str, text: &str) -> Result<Micros> {
    let read = TimeReader::default().text(text);
    read.map_err(|wrong| usage(format!("`{flag} {text}`: expected {}", wrong.expected)))
}

fn duration(flag: &str, text: &str) -> Result<Micros> {
    let seconds = parse_duration_seconds(text).map_err(|why| usage(format!("`{flag}`: {why}")))?;
    Ok(seconds as i64 * MICROS_PER_SECOND)
}
