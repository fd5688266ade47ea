//! What the command line tells shells, `man` and terminals about itself.

use std::fs;

use crate::sandbox::{Sandbox, files};

#[test]
fn every_shell_is_told_of_every_command() {
    let sandbox = Sandbox::new();
    let shells = [
        ("bash", "complete -F _retrigger"),
        ("zsh", "#compdef retrigger"),
        ("fish", "complete -c retrigger"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ];
    for (shell, own) in shells {
        let script = sandbox.call(&["completions", shell]).with_code(0).stdout;
        assert!(script.contains(own), "{shell}: {script}");
        for word in ["run", "check", "render", "verify", "state", "generate", "as-of", "recipient-skew"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    sandbox.call(&["completions", "cmd"]).with_code(2);
}

#[test]
fn bash_completes_a_command_and_a_flag() {
    let sandbox = Sandbox::new();
    let script = sandbox.call(&["completions", "bash"]).with_code(0).stdout;
    sandbox.write("retrigger.bash", script);
    let complete = |words: &str, position: usize| {
        let mut bash = sandbox.command("bash");
        let last = words.split(' ').next_back().unwrap();
        let ask = format!(
            "source retrigger.bash; COMP_WORDS=({words}); COMP_CWORD={position}; \
             _retrigger retrigger '{last}' ''; echo \"${{COMPREPLY[*]}}\""
        );
        bash.args(["-c", &ask]);
        sandbox.end(bash, b"").with_code(0).stdout.trim().to_owned()
    };
    assert_eq!(complete("retrigger gen", 1), "generate");
    assert_eq!(complete("retrigger generate --recipient-s", 2), "--recipient-skew");
}

#[test]
fn every_command_has_a_manual_page() {
    let sandbox = Sandbox::new();
    sandbox.call(&["man", "--out", "man/man1"]).with_code(0);
    let pages: Vec<String> = files(&sandbox.path("man/man1"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    for page in
        ["retrigger.1", "retrigger-run.1", "retrigger-generate.1", "retrigger-simulate.1", "retrigger-state-init.1"]
    {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
    }
    let page = fs::read_to_string(sandbox.path("man/man1/retrigger-run.1")).unwrap();
    assert!(page.contains(".TH retrigger-run 1") && page.contains("\\-\\-as\\-of"), "{page}");
    sandbox.write("file", "");
    sandbox.call(&["man", "--out", "file"]).with_code(1).says("cannot create the folder `file`");
}

#[test]
fn colours_stay_out_where_no_color_is_set() {
    let sandbox = Sandbox::new();
    let coloured = |no_color: Option<&str>, words: &[&str]| {
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_retrigger"));
        // Output goes to a pipe here, where colours have to be asked for.
        command.args(words).env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let ended = sandbox.end(command, b"");
        ended.stdout.contains('\u{1b}') || ended.stderr.contains('\u{1b}')
    };
    for words in [&["--help"][..], &["run", "--colour"]] {
        assert!(coloured(None, words), "{words:?}");
        assert!(!coloured(Some("1"), words), "{words:?}");
    }
}
