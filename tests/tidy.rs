//! What Cargo cannot check inside one crate: which folder may use which, one door per dependency, and the size of things.
//!
//! Sources are read as text: comments and literals are blanked, test code is left out. Every rule has a test that shows
//! it failing on a made-up file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A source file without comments, literals and tests; line breaks stay where they were.
struct Source {
    /// Path inside `src`, `/`-separated.
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: without_tests(&blanked(text)) }
    }

    /// The top-level module that the file belongs to; `main` and `lib` for the roots.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn found(&self, offset: usize, what: impl std::fmt::Display) -> String {
        format!("src/{}:{}: {what}", self.path, self.code[..offset].matches('\n').count() + 1)
    }
}

/// Text with every comment and literal as blanks of the same length.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'/' if rest.starts_with(b"//") => until(rest, b"\n"),
            b'/' if rest.starts_with(b"/*") => until(rest, b"*/") + 2,
            b'"' => quoted(rest, b'"'),
            b'r' if !follows_name(bytes, at) && raw_hashes(rest).is_some() => {
                let hashes = raw_hashes(rest).unwrap();
                let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
                let opening = hashes + 2;
                opening + until(&rest[opening..], &end) + end.len()
            }
            b'\'' if is_char(rest) => quoted(rest, b'\''),
            _ => {
                at += 1;
                continue;
            }
        };
        let end = (at + length).min(bytes.len());
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn until(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|window| window == end).unwrap_or(bytes.len())
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A literal, and not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    let after = String::from_utf8_lossy(&rest[1..rest.len().min(6)]).into_owned();
    let mut chars = after.chars();
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The number of `#` where a raw string begins here.
fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the byte here goes on with a name; the `b` of a byte string is none.
fn follows_name(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]).filter(|b| is_name(*b));
    before(1).is_some_and(|b| b != b'b' || before(2).is_some())
}

/// Code without the items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const TEST: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    while let Some(start) = out.find(TEST) {
        let after = start + TEST.len();
        let end = match out[after..].find(['{', ';']) {
            Some(i) if out.as_bytes()[after + i] == b'{' => block_end(&out, after + i),
            Some(i) => after + i + 1,
            None => out.len(),
        };
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// The place after the brace that closes the one at `open`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return i + 1;
        }
    }
    code.len()
}

/// The places of a word that stands alone.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        let end = at + word.len();
        let starts = at.checked_sub(1).is_none_or(|i| !is_name(bytes[i]));
        starts && (end == bytes.len() || !is_name(bytes[end]) || !is_name(bytes[end - 1]))
    })
}

// ---------------------------------------------------------------------------------------------------------------------
// Layers

/// What each folder may use, apart from itself. The ground uses nothing; the domain and the engine know no files, and so
/// not `storage`.
const LAYERS: [(&str, &[&str]); 18] = [
    ("error", &[]),
    ("ids", &[]),
    ("fence", &[]),
    ("interrupt", &["error"]),
    ("storage", &[]),
    ("triggers", &["ids", "error", "fence"]),
    ("eligibility", &["triggers", "ids", "error", "fence"]),
    ("templates", &["triggers", "ids", "error", "fence"]),
    ("campaigns", &["triggers", "eligibility", "templates", "ids", "error", "fence"]),
    ("pipeline", &["triggers", "eligibility", "templates", "campaigns", "ids", "error", "fence", "interrupt"]),
    // As the engine, and so without a way to a state's files or a delivery.
    (
        "simulate",
        &["pipeline", "triggers", "eligibility", "templates", "campaigns", "ids", "error", "fence", "interrupt"],
    ),
    ("input", EDGE),
    ("delivery", EDGE),
    ("state", EDGE),
    ("generate", EDGE),
    ("runs", RUNS),
    ("cli", CLI),
    ("lib", &[]),
];

const EDGE: &[&str] =
    &["pipeline", "triggers", "eligibility", "templates", "campaigns", "storage", "ids", "error", "fence", "interrupt"];

const RUNS: &[&str] = &[
    "simulate",
    "input",
    "delivery",
    "state",
    "pipeline",
    "triggers",
    "eligibility",
    "templates",
    "campaigns",
    "storage",
    "ids",
    "error",
    "fence",
    "interrupt",
];

const CLI: &[&str] = &[
    "runs",
    "simulate",
    "generate",
    "input",
    "delivery",
    "state",
    "pipeline",
    "triggers",
    "eligibility",
    "templates",
    "campaigns",
    "storage",
    "ids",
    "error",
    "fence",
    "interrupt",
];

fn layers(source: &Source) -> Vec<String> {
    if source.module() == "main" {
        let inner = words(&source.code, "retrigger").map(|at| (at, &source.code[at + "retrigger".len()..]));
        return inner
            .filter(|(_, path)| !path.starts_with("::cli"))
            .map(|(at, _)| source.found(at, "only `cli`"))
            .collect();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == source.module()) else {
        return vec![source.found(0, format!("`{}` has no layer; give it one in tests/tidy.rs", source.module()))];
    };
    let mut faults: Vec<String> = used_modules(&source.code)
        .into_iter()
        .filter(|(_, used)| used != source.module() && !allowed.contains(&used.as_str()))
        .map(|(at, used)| source.found(at, format!("`{}` must not use `{used}`", source.module())))
        .collect();
    // `super` from the top of a folder would be another way to its neighbours.
    let depth = source.path.trim_end_matches("/mod.rs").split('/').count();
    let climb = "super::".repeat(depth);
    let climbs = source.code.match_indices(&climb).map(|(at, _)| source.found(at, "use `crate::`"));
    faults.extend(climbs);
    faults
}

/// Every `crate::name`, and every name at the first level of `crate::{…}`.
fn used_modules(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for at in words(code, "crate").filter(|at| code[at + 5..].starts_with("::")) {
        let path = &code[at + 7..];
        let name = |text: &str| text.chars().take_while(|c| is_name(*c as u8) && c.is_ascii()).collect::<String>();
        if !path.starts_with('{') {
            used.push((at, name(path)));
            continue;
        }
        let mut depth = 0;
        for (i, byte) in path[..block_end(path, 0)].bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && matches!(byte, b'{' | b',') {
                let next = name(path[i + 1..].trim_start());
                used.extend((!next.is_empty()).then_some((at, next)));
            }
        }
    }
    used
}

#[test]
fn folders_use_what_lies_below_them_and_nothing_else() {
    assert_clean(layers);
    // Every folder has a layer, and the table names nothing that is not there.
    let modules: BTreeSet<String> = sources().iter().map(|s| s.module().to_owned()).filter(|m| m != "main").collect();
    assert_eq!(modules, LAYERS.iter().map(|(module, _)| (*module).to_owned()).collect());
}

#[test]
fn a_use_across_or_up_is_found() {
    let faults = |path: &str, text: &str| layers(&Source::new(path, text)).len();
    assert_eq!(faults("state/folder.rs", "use crate::delivery::Format;"), 1);
    assert_eq!(faults("state/folder.rs", "fn f() { crate::runs::run() }"), 1);
    assert_eq!(faults("state/folder.rs", "use crate::{\n    error::{Error, Kind},\n    input::Inputs,\n};"), 1);
    assert_eq!(faults("state/folder.rs", "use super::super::input::Inputs;"), 1);
    assert_eq!(faults("input/parquet/rows.rs", "use super::super::super::state::State;"), 1);
    assert_eq!(faults("triggers/mod.rs", "use crate::templates::Template;"), 1);
    assert_eq!(faults("eligibility/rule.rs", "use crate::campaigns::Campaign;"), 1);
    assert_eq!(faults("pipeline/execute.rs", "use crate::storage::Disk;"), 1);
    assert_eq!(faults("error.rs", "use crate::ids::Digest;"), 1);
    assert_eq!(faults("elsewhere.rs", ""), 1);
    assert_eq!(faults("main.rs", "retrigger::runs::run()"), 1);

    assert_eq!(faults("main.rs", "retrigger::cli::main()"), 0);
    assert_eq!(faults("state/folder.rs", "use crate::{error::Error, state::Receipt};\nuse super::receipts;"), 0);
    assert_eq!(faults("state/folder.rs", "// crate::delivery\nconst A: &str = \"crate::runs\";"), 0);
    assert_eq!(faults("state/folder.rs", "#[cfg(test)]\nmod tests { use crate::runs::run; }"), 0);
    assert_eq!(faults("input/parquet/rows.rs", "use super::super::request::Shape;"), 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// One door per dependency

/// A word, and the folders or files in which alone it may stand.
const DOORS: [(&str, &[&str]); 24] = [
    ("clap::", &["cli"]),
    ("clap_complete::", &["cli"]),
    ("clap_mangen::", &["cli"]),
    ("indicatif::", &["cli"]),
    ("handlebars::", &["templates"]),
    ("dashmap::", &["eligibility"]),
    // Generating is an engine of its own, small enough to live with its files.
    ("rayon::", &["pipeline", "simulate", "generate", "cli"]),
    ("rand::", &["generate"]),
    ("rand_distr::", &["generate"]),
    ("parquet::", &["input", "delivery", "state", "generate"]),
    ("polars::", &["runs/exclude.rs"]),
    ("SystemTime::now", &["cli"]),
    ("Timestamp::now", &["cli"]),
    ("Zoned::now", &["cli"]),
    ("env::var", &["cli"]),
    ("env::args", &["cli"]),
    ("println!", &["cli"]),
    ("print!", &["cli"]),
    ("eprintln!", &["cli"]),
    ("eprint!", &["cli"]),
    ("io::stdout", &["cli"]),
    ("io::stderr", &["cli"]),
    ("process::exit", &["cli"]),
    ("process::abort", &[]),
];

fn doors(source: &Source) -> Vec<String> {
    let inside = |door: &&str| source.module() == *door || source.path == **door;
    let shut = DOORS.iter().filter(|(_, doors)| !doors.iter().any(|door| inside(&door)));
    shut.flat_map(|(word, doors)| {
        // A folder of ours may bear the dependency's name.
        let own = |at: usize| source.code[..at].ends_with("::") && word.ends_with("::");
        let places = words(&source.code, word).filter(move |at| !own(*at));
        places.map(move |at| source.found(at, format!("`{word}` only in {doors:?}"))).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn every_dependency_has_one_door() {
    assert_clean(doors);
}

#[test]
fn a_dependency_behind_another_door_is_found() {
    let faults = |path: &str, text: &str| doors(&Source::new(path, text)).len();
    for (word, allowed) in DOORS {
        assert_eq!(faults("triggers/time.rs", &format!("fn f() {{ {word} }}")), 1, "{word}");
        for door in allowed {
            let path = if door.ends_with(".rs") { (*door).to_owned() } else { format!("{door}/some.rs") };
            assert_eq!(faults(&path, &format!("fn f() {{ {word} }}")), 0, "{word} in {door}");
        }
    }
    assert_eq!(faults("runs/run.rs", "use polars::prelude::*;"), 1);
    assert_eq!(faults("runs/run.rs", "// println!\nlet _ = \"eprintln!\"; writeln!(f)"), 0);
    assert_eq!(faults("runs/run.rs", "use crate::input::parquet::Rows; not_clap::x()"), 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// Size and habits

const MOST_LINES: usize = 600;
const MOST_FUNCTION_LINES: usize = 70;

/// Functions that may be longer, and why.
const LONG_FUNCTIONS: [(&str, &str); 0] = [];

const UNWANTED: [&str; 4] = ["todo!", "unimplemented!", "dbg!", ".unwrap()"];

fn habits(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//!") {
        faults.push(source.found(0, "say at the top what the file is for: `//! …`"));
    }
    let lines = source.code.trim_end().lines().count();
    if lines > MOST_LINES {
        faults.push(source.found(0, format!("{lines} lines without tests; split it by role at {MOST_LINES}")));
    }
    for word in UNWANTED {
        let places = source.code.match_indices(word).map(|(at, _)| at);
        let places = places.filter(|at| word.starts_with('.') || !follows_name(source.code.as_bytes(), *at));
        faults.extend(places.map(|at| source.found(at, format!("`{word}`"))));
    }
    faults
}

/// Every function as its place, name and number of lines, signature included.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn").filter(|at| code[at + 2..].starts_with(' ')) {
        let name = code[at + 3..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        // A type such as `fn(u8) -> u8` has no name, a declaration in a trait no body.
        let body = code[at..].find(['{', ';']).map(|i| at + i).filter(|i| code.as_bytes()[*i] == b'{');
        if let (false, Some(open)) = (name.is_empty(), body) {
            found.push((at, name, code[at..block_end(code, open)].lines().count()));
        }
    }
    found
}

fn long_functions(source: &Source) -> Vec<String> {
    let long = functions(&source.code).into_iter().filter(|(_, name, lines)| {
        let excepted = LONG_FUNCTIONS.iter().any(|(place, _)| *place == format!("{}::{name}", source.path));
        *lines > MOST_FUNCTION_LINES && !excepted
    });
    long.map(|(at, name, lines)| source.found(at, format!("`{name}` has {lines} lines"))).collect()
}

#[test]
fn files_are_short_introduced_and_without_shortcuts() {
    assert_clean(habits);
}

#[test]
fn functions_are_short() {
    assert_clean(long_functions);
}

#[test]
fn a_bad_habit_is_found() {
    let faults = |text: &str| habits(&Source::new("state/folder.rs", text)).len();
    assert_eq!(faults("//! A file.\nfn f() {}\n"), 0);
    assert_eq!(faults("fn f() {}\n"), 1);
    for word in UNWANTED {
        assert_eq!(
            faults(&format!("//! A file.\nfn f() {{ x{}{word} }}\n", if word.starts_with('.') { "" } else { " " })),
            1
        );
    }
    let tests = "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); dbg!(1) }\n}\n";
    assert_eq!(faults(&format!("//! A file.\n#[cfg(test)]\nmod tests;\n{tests}")), 0);
    assert_eq!(faults(&format!("//! A file.\n#[cfg(test)]\nmod tests;\nfn f() {{ x.unwrap() }}\n{tests}")), 1);
    assert_eq!(faults(&format!("//! A file.\n{}", "fn f() {}\n".repeat(MOST_LINES - 1))), 0);
    assert_eq!(faults(&format!("//! A file.\n{}", "fn f() {}\n".repeat(MOST_LINES))), 1);
    assert_eq!(faults("//! A file: x.unwrap()\nconst A: &str = r#\"dbg!(\"\"#; const B: char = '\"'; // todo!()\n"), 0);
}

#[test]
fn a_long_function_is_found() {
    let text = |lines: usize| {
        format!(
            "fn short() {{}}\nfn long<'a>(f: fn(&'a str) -> u8) {{\n{}}}\n",
            "    let _ = \"}\";\n".repeat(lines - 2)
        )
    };
    let faults = |lines| long_functions(&Source::new("state/folder.rs", &text(lines)));
    assert_eq!(faults(MOST_FUNCTION_LINES), Vec::<String>::new());
    assert_eq!(faults(MOST_FUNCTION_LINES + 1), ["src/state/folder.rs:2: `long` has 71 lines"]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading the sources

/// Every file of `src` that is not a test: what stands behind `#[cfg(test)] mod name;` is left out.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: &String| fs::read_to_string(root.join(path)).unwrap();
    let tests: BTreeSet<String> = paths.iter().flat_map(|path| test_modules(path, &read(path))).collect();
    paths.iter().filter(|path| !tests.contains(*path)).map(|path| Source::new(path, &read(path))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// Files of modules that a file declares for tests only.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let code = blanked(text);
    let folder = path.trim_end_matches("mod.rs").trim_end_matches("lib.rs").trim_end_matches(".rs");
    let folder = folder.trim_end_matches('/');
    let names = code.split("#[cfg(test)]").skip(1).filter_map(|after| {
        let item = after.trim_start().trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
        let end = item.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        item[end..].starts_with(';').then(|| item[..end].to_owned())
    });
    let file = |name: String| if folder.is_empty() { format!("{name}.rs") } else { format!("{folder}/{name}.rs") };
    names.map(file).collect()
}

fn assert_clean(rule: fn(&Source) -> Vec<String>) {
    let faults: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn sources_are_found_and_tests_are_not_among_them() {
    let paths: Vec<String> = sources().into_iter().map(|s| s.path).collect();
    assert!(paths.iter().any(|p| p == "lib.rs") && paths.iter().any(|p| p == "input/parquet/mod.rs"));
    assert!(!paths.iter().any(|p| p == "state/tests.rs" || p == "storage/testing.rs"), "{paths:?}");
    assert_eq!(test_modules("a/mod.rs", "#[cfg(test)]\npub(crate) mod t;\n#[cfg(test)]\nmod u {}"), ["a/t.rs"]);
}
