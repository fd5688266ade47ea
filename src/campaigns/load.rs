//! Campaign folders on disk: one folder a campaign, `campaign.json` plus templates, partials in `partials/`.
//!
//! Nothing outside a campaign's folder is ever read, whatever a path or a symlink says.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::definition::{Campaign, Campaigns};
use super::parse;
use crate::error::{Error, Fault, IoContext, Kind, Result, nearest};
use crate::templates::TemplateSource;

/// Which campaigns to load, and what to do with broken ones.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Only these ids; all where empty.
    pub only: Vec<String>,
    /// Reject the triggers of a broken campaign instead of refusing to run.
    pub skip_broken: bool,
}

/// A campaign's folder: what its templates may read.
pub struct Folder {
    root: PathBuf,
    shown: PathBuf,
    /// Partials by name.
    pub partials: BTreeMap<String, TemplateSource>,
    /// What is wrong with the partials' files.
    faults: Vec<Fault>,
    /// Every file that was read, by path inside the folder: what a run keeps of the definition.
    used: RefCell<BTreeMap<String, String>>,
}

impl Folder {
    fn open(path: &Path) -> std::io::Result<Folder> {
        let mut folder = Folder {
            root: path.canonicalize()?,
            shown: path.to_owned(),
            partials: BTreeMap::new(),
            faults: Vec::new(),
            used: RefCell::default(),
        };
        folder.read_partials()?;
        Ok(folder)
    }

    /// Reads a file of the folder; the error is a sentence for a fault.
    pub fn read(&self, relative: &Path) -> Result<TemplateSource, String> {
        let shown = relative.display();
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("`{shown}` leaves the campaign's folder"));
        }
        let path = self.root.join(relative);
        let real = path.canonicalize().map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        if !real.starts_with(&self.root) {
            return Err(format!("`{shown}` is a link that leaves the campaign's folder"));
        }
        let bytes = fs::read(&real).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not UTF-8"))?;
        let plain: PathBuf = relative.components().filter(|part| *part != Component::CurDir).collect();
        self.used.borrow_mut().insert(plain.display().to_string(), text.clone());
        Ok(TemplateSource { file: self.shown.join(relative).display().to_string(), text })
    }

    /// `partials/footer.html.hbs` is the partial `footer`. A file that cannot be read is a fault, and stands as an empty
    /// partial, so that its uses are not faults as well.
    fn read_partials(&mut self) -> std::io::Result<()> {
        let folder = self.root.join("partials");
        if !folder.is_dir() {
            return Ok(());
        }
        let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let Some(file_name) = name.to_str().filter(|n| n.ends_with(".hbs")) else { continue };
            let partial = file_name.split('.').next().unwrap_or(file_name);
            let relative = Path::new("partials").join(file_name);
            let file = self.shown.join(&relative).display().to_string();
            if self.partials.contains_key(partial) {
                self.faults.push(Fault::new(&file, format!("another file in `partials` is named `{partial}` too")));
                continue;
            }
            let source = self.read(&relative).unwrap_or_else(|why| {
                self.faults.push(Fault::new(&file, why));
                TemplateSource { file, text: String::new() }
            });
            self.partials.insert(partial.to_owned(), source);
        }
        Ok(())
    }
}

/// Loads every campaign below a folder, or the one campaign that the folder is.
pub fn load(directory: &Path, options: &LoadOptions) -> Result<Campaigns> {
    let mut faults = Vec::new();
    let mut campaigns = Campaigns::default();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in campaign_folders(directory)? {
        let (id, loaded) = load_one(&folder);
        if let Some(id) = id.as_ref().filter(|id| !options.only.is_empty() && !options.only.contains(id)) {
            campaigns.out_of_scope.push(id.clone());
            continue;
        }
        if let Some(id) = &id {
            match seen.entry(id.clone()) {
                Entry::Occupied(first) => faults.push(same_id(&folder, id, first.get())),
                Entry::Vacant(place) => {
                    place.insert(folder.clone());
                }
            }
        }
        match (loaded, id) {
            (Ok(campaign), _) => campaigns.loaded.push(campaign),
            (Err(_), Some(id)) if options.skip_broken => campaigns.broken.push(id),
            (Err(found), _) => faults.extend(found),
        }
    }
    campaigns.loaded.sort_by(|a, b| a.id.cmp(&b.id));
    faults.extend(unknown_only(&campaigns, &options.only));
    if campaigns.loaded.len() > MAX_CAMPAIGNS {
        faults.push(Fault::new(directory.display().to_string(), format!("more than {MAX_CAMPAIGNS} campaigns")));
    }
    if faults.is_empty() {
        return Ok(campaigns);
    }
    // A faulty partial is found once for every field that uses it.
    let mut told = BTreeSet::new();
    faults.retain(|fault| told.insert((fault.file.clone(), fault.at, fault.message.clone())));
    let count = faults.len();
    let summary = format!("cannot load the campaigns of `{}`: {count} fault{}", directory.display(), plural(count));
    Err(Error::new(Kind::Definition, summary).with_faults(faults))
}

/// Records hold a campaign's number in 13 bits.
const MAX_CAMPAIGNS: usize = 8_192;

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn load_one(path: &Path) -> (Option<String>, Result<Campaign, Vec<Fault>>) {
    let file = path.join("campaign.json").display().to_string();
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(error) => return (None, Err(vec![Fault::new(path.display().to_string(), error.to_string())])),
    };
    let source = match folder.read(Path::new("campaign.json")) {
        Ok(source) => source,
        Err(why) => return (None, Err(vec![Fault::new(file, why)])),
    };
    let (id, campaign) = parse::campaign(&file, &source.text, &folder);
    let Folder { mut faults, used, .. } = folder;
    match campaign {
        Ok(campaign) if faults.is_empty() => (id, Ok(Campaign { files: used.into_inner(), ..campaign })),
        Ok(_) => (id, Err(faults)),
        Err(more) => {
            faults.splice(0..0, more);
            (id, Err(faults))
        }
    }
}

fn campaign_folders(directory: &Path) -> Result<Vec<PathBuf>> {
    if directory.join("campaign.json").is_file() {
        return Ok(vec![directory.to_owned()]);
    }
    let entries = fs::read_dir(directory).at(Kind::Definition, "read the campaigns folder", directory)?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.at(Kind::Definition, "read the campaigns folder", directory)?.path();
        if path.join("campaign.json").is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    if folders.is_empty() {
        let summary = format!("no campaign in `{}`", directory.display());
        return Err(Error::new(Kind::Definition, summary)
            .hint("a campaign is a folder with a `campaign.json`; give the folder that holds them to `--campaigns`"));
    }
    Ok(folders)
}

fn same_id(folder: &Path, id: &str, first: &Path) -> Fault {
    let file = folder.join("campaign.json").display().to_string();
    Fault::new(file, format!("the id `{id}` is also that of the campaign in `{}`", first.display()))
        .hint("give one of them another id")
}

fn unknown_only(campaigns: &Campaigns, only: &[String]) -> Vec<Fault> {
    let known: Vec<&str> = campaigns.loaded.iter().map(|c| c.id.as_str()).collect();
    let known_or_broken = |id: &String| known.contains(&id.as_str()) || campaigns.broken.contains(id);
    only.iter()
        .filter(|id| !known_or_broken(id))
        .map(|id| {
            let fault = Fault::new("--only", format!("no campaign has the id `{id}`"));
            let others = campaigns.out_of_scope.iter().map(String::as_str).chain(known.iter().copied());
            match nearest(id, others) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault,
            }
        })
        .collect()
}
