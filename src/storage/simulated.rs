//! A disk in memory that loses at a crash what was not synced.
//!
//! A file has durable bytes and writes that no sync has followed; a folder has durable names, and changes of names that
//! no sync of the folder has followed stand in one list. What is seen is everything; what a crash leaves is the durable
//! part and any subset of the rest, see [`Survival`]. A change of a name is kept or lost as one: a rename never shows the
//! old and the new name, which holds for every journaling file system; it is durable when the folder of the new name is
//! synced. Syncing a file does not make its name durable.
//!
//! While a command runs, the disk keeps for each operation the image that a crash in the middle of it would find: with an
//! operation that changes something as not yet durable, with a sync as not begun.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use xxhash_rust::xxh3::xxh3_128;

use super::testing::Step;
use super::{Disk, DiskFile, DiskLock, DiskMetadata, DiskRead};

/// What a crash leaves of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// The process died, the machine did not: all is seen, and still not durable.
    Killed,
    /// Nothing.
    Nothing,
    /// Every name, and no byte written: files are shorter than they were, or empty.
    Names,
    /// Everything, but only half of the last write.
    Torn,
    /// Each name and each write or not, by a seeded draw; a lost write before one that was kept reads as zeros.
    Drawn(u64),
}

type Number = usize;
const ROOT: Number = 0;

/// Bytes, and what stands for them in a fingerprint.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>, OnceLock<u128>);

impl Bytes {
    fn new(bytes: Vec<u8>) -> Arc<Bytes> {
        Arc::new(Bytes(bytes, OnceLock::new()))
    }

    fn print(&self) -> u128 {
        *self.1.get_or_init(|| {
            if !self.0.starts_with(b"{") {
                return xxh3_128(&self.0);
            }
            let (mut kept, mut digits) = (Vec::with_capacity(self.0.len()), 0);
            for byte in &self.0 {
                digits = if byte.is_ascii_hexdigit() || *byte == b'.' { digits + 1 } else { 0 };
                match digits {
                    0 | 1 => kept.push(*byte),
                    2 => drop(kept.pop()),
                    _ => {}
                }
            }
            xxh3_128(&kept)
        })
    }
}

#[derive(Debug, Clone)]
enum Content {
    Truncated,
    Appended(Arc<Bytes>),
}

#[derive(Debug, Clone)]
enum Node {
    File { durable: Arc<Bytes>, unsynced: Vec<Content> },
    Folder { seen: BTreeMap<String, Number>, durable: BTreeMap<String, Number> },
}

/// A name in a folder, and what it names.
type Name = (Number, String, Number);

/// A change that is kept or lost as one.
#[derive(Debug, Clone)]
struct NameChange {
    removed: Option<Name>,
    added: Option<Name>,
}

/// The content of a disk.
#[derive(Debug, Clone)]
pub struct Image {
    nodes: Vec<Node>,
    changes: Vec<NameChange>,
    last_written: Option<Number>,
}

impl Image {
    /// Flips a bit of a file, seen and durable.
    pub fn flip(&mut self, path: &Path, bit: usize) {
        let number = self.find(path).unwrap();
        let mut content = self.content(number);
        content[bit / 8] ^= 1 << (bit % 8);
        self.nodes[number] = Node::File { durable: Bytes::new(content), unsynced: Vec::new() };
    }

    /// An empty disk with this one folder.
    pub fn with_folder(path: &Path) -> Image {
        let mut image = Image { nodes: vec![folder()], changes: Vec::new(), last_written: None };
        for folder in missing_folders(&image, path) {
            image.add_folder(&folder).unwrap();
        }
        image.crash(Survival::Torn)
    }

    /// What the next start finds.
    pub fn crash(&self, survival: Survival) -> Image {
        let mut image = self.clone();
        image.forget();
        if survival == Survival::Killed {
            return image;
        }
        let mut draw = Draw(match survival {
            Survival::Drawn(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            _ => 1,
        });
        for change in std::mem::take(&mut image.changes) {
            let kept = match survival {
                Survival::Names | Survival::Torn => true,
                Survival::Drawn(_) => draw.coin(),
                _ => false,
            };
            if kept {
                image.make_durable(&change);
            }
        }
        for number in 0..image.nodes.len() {
            let is_last = image.last_written == Some(number);
            match &mut image.nodes[number] {
                Node::File { durable, unsynced } => {
                    *durable = survivors(durable, &std::mem::take(unsynced), survival, is_last, &mut draw);
                }
                Node::Folder { seen, durable } => seen.clone_from(durable),
            }
        }
        image.last_written = None;
        image
    }

    /// Empties what no name leads to any more, now or after a crash.
    fn forget(&mut self) {
        let mut named = vec![false; self.nodes.len()];
        let mut leads: Vec<Number> = vec![ROOT];
        let changed = self.changes.iter().flat_map(|change| [&change.removed, &change.added]).flatten();
        leads.extend(changed.flat_map(|(folder, _, number)| [*folder, *number]));
        while let Some(number) = leads.pop() {
            if !std::mem::replace(&mut named[number], true)
                && let Node::Folder { seen, durable } = &self.nodes[number]
            {
                leads.extend(seen.values().chain(durable.values()));
            }
        }
        for (node, _) in self.nodes.iter_mut().zip(named).filter(|(_, named)| !named) {
            *node = folder();
        }
    }

    /// Every file and folder that is seen, by its path; folders end with `/` and have no content.
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut tree = BTreeMap::new();
        self.walk(ROOT, "", &mut tree);
        tree
    }

    fn walk(&self, folder: Number, path: &str, tree: &mut BTreeMap<String, Vec<u8>>) {
        let Node::Folder { seen, .. } = &self.nodes[folder] else { unreachable!("only folders are walked") };
        for (name, number) in seen {
            let path = format!("{path}/{name}");
            match &self.nodes[*number] {
                Node::File { .. } => drop(tree.insert(path, self.content(*number))),
                Node::Folder { .. } => {
                    tree.insert(format!("{path}/"), Vec::new());
                    self.walk(*number, &path, tree);
                }
            }
        }
    }

    /// The same text for images that no command can tell apart, now or after a crash; numbers in JSON are left out where
    /// they have more than one digit: they tell the time, or are checksums of what does.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        let mut known = HashMap::new();
        self.describe(ROOT, &mut known, &mut text);
        for change in &self.changes {
            for side in [&change.removed, &change.added] {
                let Some((folder, name, number)) = side else { continue };
                let folder = self.describe(*folder, &mut known, &mut text);
                let number = self.describe(*number, &mut known, &mut text);
                let _ = write!(text, "{folder}/{name}={number};");
            }
            text.push('|');
        }
        text
    }

    fn describe(&self, number: Number, known: &mut HashMap<Number, usize>, text: &mut String) -> usize {
        if let Some(id) = known.get(&number) {
            return *id;
        }
        let id = known.len();
        known.insert(number, id);
        match &self.nodes[number] {
            Node::File { durable, unsynced } => {
                let _ = write!(text, "{id}:{:x}", durable.print());
                for write in unsynced {
                    let _ = match write {
                        Content::Truncated => write!(text, "+truncated"),
                        Content::Appended(bytes) => write!(text, "+{:x}", bytes.print()),
                    };
                }
            }
            Node::Folder { seen, durable } => {
                for names in [seen, durable] {
                    for (name, number) in names {
                        let number = self.describe(*number, known, text);
                        let _ = write!(text, "{id}/{name}={number};");
                    }
                    text.push('|');
                }
            }
        }
        id
    }

    fn content(&self, number: Number) -> Vec<u8> {
        let Node::File { durable, unsynced } = &self.nodes[number] else { unreachable!("only files have content") };
        let mut bytes = durable.0.clone();
        for write in unsynced {
            match write {
                Content::Truncated => bytes.clear(),
                Content::Appended(more) => bytes.extend_from_slice(&more.0),
            }
        }
        bytes
    }

    fn names(&self, folder: Number) -> io::Result<&BTreeMap<String, Number>> {
        match &self.nodes[folder] {
            Node::Folder { seen, .. } => Ok(seen),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Number> {
        let mut number = ROOT;
        for part in path.components().skip(1) {
            let name = part.as_os_str().to_str().unwrap();
            number = *self.names(number)?.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(number)
    }

    /// The folder of a path, and its name there.
    fn place(&self, path: &Path) -> io::Result<(Number, String)> {
        let folder = self.find(path.parent().ok_or(ErrorKind::InvalidInput)?)?;
        self.names(folder)?;
        Ok((folder, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn change(&mut self, change: NameChange) {
        if let Some((folder, name, _)) = &change.removed
            && let Node::Folder { seen, .. } = &mut self.nodes[*folder]
        {
            seen.remove(name);
        }
        if let Some((folder, name, number)) = &change.added
            && let Node::Folder { seen, .. } = &mut self.nodes[*folder]
        {
            seen.insert(name.clone(), *number);
        }
        self.changes.push(change);
    }

    fn make_durable(&mut self, change: &NameChange) {
        if let Some((folder, name, number)) = &change.removed
            && let Node::Folder { durable, .. } = &mut self.nodes[*folder]
            && durable.get(name) == Some(number)
        {
            durable.remove(name);
        }
        if let Some((folder, name, number)) = &change.added
            && let Node::Folder { durable, .. } = &mut self.nodes[*folder]
        {
            durable.insert(name.clone(), *number);
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Number> {
        let (folder, name) = self.place(path)?;
        let number = self.nodes.len();
        self.nodes.push(node);
        self.change(NameChange { removed: None, added: Some((folder, name, number)) });
        Ok(number)
    }

    fn add_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, folder()).map(drop)
    }

    fn create(&mut self, path: &Path) -> io::Result<Number> {
        match self.find(path) {
            Ok(number) => match &mut self.nodes[number] {
                Node::File { unsynced, .. } => {
                    unsynced.push(Content::Truncated);
                    Ok(number)
                }
                Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
            },
            Err(_) => self.add(path, Node::File { durable: Arc::default(), unsynced: Vec::new() }),
        }
    }

    fn append(&mut self, number: Number, bytes: &[u8]) {
        if let Node::File { unsynced, .. } = &mut self.nodes[number] {
            unsynced.push(Content::Appended(Bytes::new(bytes.to_vec())));
        }
        self.last_written = Some(number);
    }

    fn sync_file(&mut self, number: Number) {
        let content = Bytes::new(self.content(number));
        self.nodes[number] = Node::File { durable: content, unsynced: Vec::new() };
    }

    fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        let folder = self.find(path)?;
        self.names(folder)?;
        for change in std::mem::take(&mut self.changes) {
            let of = change.added.as_ref().or(change.removed.as_ref()).map(|name| name.0);
            if of == Some(folder) {
                self.make_durable(&change);
            } else {
                self.changes.push(change);
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.find(from)?;
        let ((from_folder, from_name), (to_folder, to_name)) = (self.place(from)?, self.place(to)?);
        if let Ok(there) = self.find(to)
            && self.names(there).is_ok_and(|names| !names.is_empty())
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let (removed, added) = (Some((from_folder, from_name, number)), Some((to_folder, to_name, number)));
        self.change(NameChange { removed, added });
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let ((folder, name), number) = (self.place(path)?, self.find(path)?);
        self.change(NameChange { removed: Some((folder, name, number)), added: None });
        Ok(())
    }

    /// A folder and everything in it, deepest first.
    fn within(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (name, number) in self.names(self.find(path)?)? {
            let inner = path.join(name);
            match self.nodes[*number] {
                Node::Folder { .. } => paths.extend(self.within(&inner)?),
                Node::File { .. } => paths.push(inner),
            }
        }
        paths.push(path.to_owned());
        Ok(paths)
    }
}

fn folder() -> Node {
    Node::Folder { seen: BTreeMap::new(), durable: BTreeMap::new() }
}

fn missing_folders(image: &Image, path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> =
        path.ancestors().take_while(|folder| image.find(folder).is_err()).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

/// What is left of a file.
fn survivors(
    durable: &Arc<Bytes>,
    unsynced: &[Content],
    survival: Survival,
    is_last: bool,
    draw: &mut Draw,
) -> Arc<Bytes> {
    if unsynced.is_empty() {
        return Arc::clone(durable);
    }
    let mut bytes = durable.0.clone();
    // Up to where something was kept.
    let mut end = bytes.len();
    for (i, write) in unsynced.iter().enumerate() {
        let kept = match survival {
            Survival::Torn => true,
            Survival::Drawn(_) => draw.coin(),
            _ => false,
        };
        match write {
            Content::Truncated if kept => (bytes, end) = (Vec::new(), 0),
            Content::Truncated => {}
            Content::Appended(more) => {
                let torn = survival == Survival::Torn && is_last && i + 1 == unsynced.len();
                let length = if torn { more.0.len() / 2 } else { more.0.len() };
                if kept {
                    bytes.extend_from_slice(&more.0[..length]);
                    end = bytes.len();
                } else {
                    bytes.resize(bytes.len() + more.0.len(), 0);
                }
            }
        }
    }
    bytes.truncate(end);
    Bytes::new(bytes)
}

struct Draw(u64);

impl Draw {
    fn coin(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & (1 << 20) != 0
    }
}

/// What goes wrong with the calls of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The call of this number fails once, with an input/output error.
    FailsOnce(usize),
    /// From the call of this number on the disk is full.
    FullFrom(usize),
}

/// A way in which a disk does not do what it is told: operations are left out, or done later than they were asked for.
#[derive(Clone)]
pub struct Lie {
    about: Arc<dyn Fn(Step, &Path, bool) -> bool + Send + Sync>,
    until: Option<Until>,
}

type Until = Arc<dyn Fn(Step, &Path) -> bool + Send + Sync>;

impl Lie {
    /// These operations are never done.
    pub fn skip(about: impl Fn(Step, &Path) -> bool + Send + Sync + 'static) -> Lie {
        Lie { about: Arc::new(move |step, path, _| about(step, path)), until: None }
    }

    /// These operations are done after the next one that `until` picks. The last argument of `about` says whether some
    /// are waiting already.
    pub fn late(
        about: impl Fn(Step, &Path, bool) -> bool + Send + Sync + 'static,
        until: impl Fn(Step, &Path) -> bool + Send + Sync + 'static,
    ) -> Lie {
        Lie { about: Arc::new(about), until: Some(Arc::new(until)) }
    }
}

enum Waiting {
    SyncFile(Number, PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// An operation as it was asked for, and what a crash in the middle of it would find.
pub struct Operation {
    pub step: Step,
    pub path: PathBuf,
    pub image: Image,
}

struct Inner {
    image: Image,
    operations: Vec<Operation>,
    calls: usize,
    trouble: Option<Trouble>,
    lie: Option<Lie>,
    waiting: Vec<Waiting>,
    locked: HashSet<PathBuf>,
}

/// See the module.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    /// A disk that holds this and does what it is told.
    pub fn new(image: Image) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Inner {
            image,
            operations: Vec::new(),
            calls: 0,
            trouble: None,
            lie: None,
            waiting: Vec::new(),
            locked: HashSet::new(),
        })))
    }

    pub fn with_trouble(self, trouble: Trouble) -> SimDisk {
        self.inner().trouble = Some(trouble);
        self
    }

    pub fn with_lie(self, lie: Option<Lie>) -> SimDisk {
        self.inner().lie = lie;
        self
    }

    pub fn image(&self) -> Image {
        self.inner().image.clone()
    }

    /// The operations so far: they are taken out.
    pub fn take_operations(&self) -> Vec<Operation> {
        std::mem::take(&mut self.inner().operations)
    }

    /// All calls so far, reading included.
    pub fn calls(&self) -> usize {
        self.inner().calls
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Inner {
    /// Counts a call; an error if this one is to fail.
    fn call(&mut self, needs_space: bool) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        match self.trouble {
            Some(Trouble::FailsOnce(at)) if at == number => Err(io::Error::other("input/output error")),
            Some(Trouble::FullFrom(at)) if needs_space && number >= at => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn operate<T>(&mut self, step: Step, path: &Path, work: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        self.call(matches!(step, Step::Create | Step::Write))?;
        self.apply(step, path, work)
    }

    fn apply<T>(&mut self, step: Step, path: &Path, work: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        let is_sync = matches!(step, Step::Sync | Step::SyncFolder);
        let before = is_sync.then(|| self.image.clone());
        let done = work(&mut self.image)?;
        let image = before.unwrap_or_else(|| self.image.clone());
        self.operations.push(Operation { step, path: path.to_owned(), image });
        self.tell_the_truth(step, path)?;
        Ok(done)
    }

    /// Whether the disk lies about this operation: it is left for later or for ever.
    fn lies(&mut self, step: Step, path: &Path, waiting: impl FnOnce() -> Waiting) -> bool {
        let Some(lie) = &self.lie else { return false };
        let about = (lie.about)(step, path, !self.waiting.is_empty());
        if about && lie.until.is_some() {
            self.waiting.push(waiting());
        }
        about
    }

    fn tell_the_truth(&mut self, step: Step, path: &Path) -> io::Result<()> {
        if !self.lie.as_ref().and_then(|lie| lie.until.as_ref()).is_some_and(|until| until(step, path)) {
            return Ok(());
        }
        for late in std::mem::take(&mut self.waiting) {
            match late {
                Waiting::SyncFile(number, path) => self.apply(Step::Sync, &path, |image| {
                    image.sync_file(number);
                    Ok(())
                }),
                Waiting::SyncFolder(path) => self.apply(Step::SyncFolder, &path, |image| image.sync_folder(&path)),
                Waiting::Rename(from, to) => self.apply(Step::Rename, &to, |image| image.rename(&from, &to)),
                Waiting::Remove(path) => self.apply(Step::Remove, &path, |image| image.remove(&path)),
            }?;
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    number: Number,
    path: PathBuf,
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let number = self.number;
        self.disk.inner().operate(Step::Write, &self.path, |image| {
            image.append(number, bytes);
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        let (mut inner, number) = (self.disk.inner(), self.number);
        if inner.lies(Step::Sync, &self.path, || Waiting::SyncFile(number, self.path.clone())) {
            return Ok(());
        }
        inner.operate(Step::Sync, &self.path, |image| {
            image.sync_file(number);
            Ok(())
        })
    }
}

struct SimReader {
    disk: SimDisk,
    content: Vec<u8>,
}

impl DiskRead for SimReader {
    fn size(&self) -> io::Result<u64> {
        Ok(self.content.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.inner().call(false)?;
        let rest = self.content.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locked.remove(&self.path);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let number = self.inner().operate(Step::Create, path, |image| image.create(path))?;
        Ok(Box::new(SimFile { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let missing = missing_folders(&inner.image, path);
        missing.iter().try_for_each(|folder| inner.operate(Step::Create, folder, |image| image.add_folder(folder)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.lies(Step::Rename, to, || Waiting::Rename(from.to_owned(), to.to_owned())) {
            return Ok(());
        }
        inner.operate(Step::Rename, to, |image| image.rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.lies(Step::SyncFolder, path, || Waiting::SyncFolder(path.to_owned())) {
            return Ok(());
        }
        inner.operate(Step::SyncFolder, path, |image| image.sync_folder(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.lies(Step::Remove, path, || Waiting::Remove(path.to_owned())) {
            return Ok(());
        }
        inner.operate(Step::Remove, path, |image| image.remove(path))
    }

    /// An operation for every name: a crash may leave a part of it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let within = inner.image.within(path)?;
        within.iter().try_for_each(|path| inner.operate(Step::Remove, path, |image| image.remove(path)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut inner = self.inner();
        inner.call(false)?;
        let folder = inner.image.find(path)?;
        Ok(inner.image.names(folder)?.keys().map(|name| path.join(name)).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        inner.call(false)?;
        let number = inner.image.find(path)?;
        match inner.image.nodes[number] {
            Node::File { .. } => Ok(inner.image.content(number)),
            Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        Ok(Arc::new(SimReader { content: self.read(path)?, disk: self.clone() }))
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        let mut inner = self.inner();
        inner.call(false)?;
        let number = inner.image.find(path)?;
        let is_dir = inner.image.names(number).is_ok();
        let bytes = if is_dir { 0 } else { inner.image.content(number).len() as u64 };
        Ok(DiskMetadata { is_dir, bytes, device: 1 })
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        let mut inner = self.inner();
        inner.call(false)?;
        inner.image.find(path).map(|_| path.to_owned())
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner().image.find(path).is_ok()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut inner = self.inner();
        if inner.image.find(path).is_err() {
            inner.operate(Step::Create, path, |image| image.create(path))?;
        }
        inner.call(false)?;
        let free = inner.locked.insert(path.to_owned());
        Ok(free.then(|| Box::new(SimLock { disk: self.clone(), path: path.to_owned() }) as Box<dyn DiskLock>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "/home";

    fn disk() -> SimDisk {
        SimDisk::new(Image::with_folder(Path::new(HOME)))
    }

    fn path(name: &str) -> PathBuf {
        Path::new(HOME).join(name)
    }

    fn write(disk: &SimDisk, name: &str, pieces: &[&str], sync: bool) {
        let mut file = disk.create(&path(name)).unwrap();
        pieces.iter().for_each(|piece| file.write_all(piece.as_bytes()).unwrap());
        if sync {
            file.sync().unwrap();
        }
    }

    /// The files that a crash leaves, as text.
    fn left(disk: &SimDisk, survival: Survival) -> Vec<(String, String)> {
        let tree = disk.image().crash(survival).tree().into_iter().filter(|(path, _)| !path.ends_with('/'));
        tree.map(|(path, bytes)| (path[HOME.len() + 1..].to_owned(), String::from_utf8(bytes).unwrap())).collect()
    }

    fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn content_needs_a_sync_of_the_file_and_its_name_one_of_the_folder() {
        let disk = disk();
        write(&disk, "a", &["one"], true);
        assert_eq!(left(&disk, Survival::Nothing), files(&[]), "the name is lost");
        disk.sync_dir(Path::new(HOME)).unwrap();
        write(&disk, "b", &["two", "three"], false);
        assert_eq!(left(&disk, Survival::Killed), files(&[("a", "one"), ("b", "twothree")]));
        assert_eq!(left(&disk, Survival::Nothing), files(&[("a", "one")]));
        assert_eq!(left(&disk, Survival::Names), files(&[("a", "one"), ("b", "")]));
        assert_eq!(left(&disk, Survival::Torn), files(&[("a", "one"), ("b", "twoth")]));
        let drawn: HashSet<_> = (0..40).map(|seed| left(&disk, Survival::Drawn(seed))).collect();
        let b = |text: &str| files(&[("a", "one"), ("b", text)]);
        let possible = [files(&[("a", "one")]), b(""), b("two"), b("twothree"), b("\0\0\0three")];
        assert_eq!(drawn, possible.into(), "every subset is drawn sooner or later");
    }

    #[test]
    fn a_rename_is_kept_or_lost_as_one_until_the_folder_of_the_new_name_is_synced() {
        let disk = disk();
        disk.create_dir_all(&path("inner")).unwrap();
        write(&disk, "a", &["new"], true);
        write(&disk, "inner/a", &["old"], true);
        for folder in [HOME.into(), path("inner")] {
            disk.sync_dir(&folder).unwrap();
        }
        disk.rename(&path("a"), &path("inner/a")).unwrap();
        disk.sync_dir(Path::new(HOME)).unwrap();
        assert_eq!(left(&disk, Survival::Nothing), files(&[("a", "new"), ("inner/a", "old")]));
        assert_eq!(left(&disk, Survival::Names), files(&[("inner/a", "new")]));
        disk.sync_dir(&path("inner")).unwrap();
        assert_eq!(left(&disk, Survival::Nothing), files(&[("inner/a", "new")]));
    }

    #[test]
    fn a_removal_that_was_not_synced_may_come_back_in_part() {
        let disk = disk();
        disk.create_dir_all(&path("inner")).unwrap();
        write(&disk, "inner/a", &["x"], true);
        write(&disk, "inner/b", &["x"], true);
        for folder in [path("inner"), HOME.into()] {
            disk.sync_dir(&folder).unwrap();
        }
        disk.remove_dir_all(&path("inner")).unwrap();
        assert_eq!((left(&disk, Survival::Names), left(&disk, Survival::Killed)), (vec![], vec![]));
        assert_eq!(left(&disk, Survival::Nothing), files(&[("inner/a", "x"), ("inner/b", "x")]));
        let sizes: HashSet<_> = (0..40).map(|seed| left(&disk, Survival::Drawn(seed)).len()).collect();
        assert_eq!(sizes, HashSet::from([0, 1, 2]));
    }

    #[test]
    fn each_operation_is_kept_with_what_a_crash_in_the_middle_of_it_would_find() {
        let disk = disk();
        write(&disk, "a", &["x"], true);
        disk.sync_dir(Path::new(HOME)).unwrap();
        let operations = disk.take_operations();
        let steps: Vec<Step> = operations.iter().map(|operation| operation.step).collect();
        assert_eq!(steps, [Step::Create, Step::Write, Step::Sync, Step::SyncFolder]);
        let found = |n: usize, survival| operations[n].image.crash(survival).tree().get("/home/a").cloned();
        assert_eq!((found(0, Survival::Nothing), found(0, Survival::Names)), (None, Some(vec![])));
        assert_eq!((found(2, Survival::Names), found(3, Survival::Names)), (Some(vec![]), Some(b"x".to_vec())));
        assert_eq!(found(3, Survival::Nothing), None);
    }

    #[test]
    fn calls_fail_once_or_for_want_of_space() {
        let failing = disk().with_trouble(Trouble::FailsOnce(1));
        let mut file = failing.create(&path("a")).unwrap();
        assert!(file.write_all(b"x").is_err() && file.write_all(b"x").is_ok());
        let full = disk().with_trouble(Trouble::FullFrom(1));
        let mut file = full.create(&path("a")).unwrap();
        assert_eq!(file.write_all(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(file.sync().is_ok() && full.create(&path("b")).is_err() && full.remove_file(&path("a")).is_ok());
    }

    #[test]
    fn a_lie_leaves_an_operation_out_or_does_it_late() {
        let skipped = disk().with_lie(Some(Lie::skip(|step, _| step == Step::Sync)));
        write(&skipped, "a", &["x"], true);
        skipped.sync_dir(Path::new(HOME)).unwrap();
        assert_eq!(left(&skipped, Survival::Nothing), files(&[("a", "")]));
        let late = Lie::late(|step, _, _| step == Step::Sync, |step, _| step == Step::SyncFolder);
        let late = disk().with_lie(Some(late));
        write(&late, "a", &["x"], true);
        late.sync_dir(Path::new(HOME)).unwrap();
        let steps: Vec<Step> = late.take_operations().iter().map(|operation| operation.step).collect();
        assert_eq!(steps, [Step::Create, Step::Write, Step::SyncFolder, Step::Sync]);
        assert_eq!(left(&late, Survival::Nothing), files(&[("a", "x")]));
    }

    #[test]
    fn a_lock_is_held_by_one_of_a_disk() {
        let disk = disk();
        let held = disk.try_lock(&path("lock")).unwrap();
        assert!(held.is_some() && disk.try_lock(&path("lock")).unwrap().is_none());
        drop(held);
        assert!(disk.try_lock(&path("lock")).unwrap().is_some());
    }

    #[test]
    fn fingerprints_tell_apart_what_a_crash_would_tell_apart() {
        let print = |disk: &SimDisk| disk.image().fingerprint();
        let (one, other) = (disk(), disk());
        write(&one, "a", &["x"], true);
        write(&other, "a", &["x"], false);
        assert_ne!(print(&one), print(&other), "one is durable");
        one.sync_dir(Path::new(HOME)).unwrap();
        assert_ne!(print(&one), print(&other));
        // The same in another order of numbers.
        let again = disk();
        write(&again, "b", &["y"], true);
        again.remove_file(&path("b")).unwrap();
        again.sync_dir(Path::new(HOME)).unwrap();
        write(&again, "a", &["x"], true);
        again.sync_dir(Path::new(HOME)).unwrap();
        assert_eq!(print(&one), print(&again));
    }
}
