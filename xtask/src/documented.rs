//! What the documents tell a reader to type, tried out.
//!
//! * Every `anabranch` command in a shell block or code span must exist, with each of its
//!   flags: the program itself is asked, by `--help`.
//! * Blocks that begin with ```` ```sh run ```` are run, top to bottom, from the root, with
//!   an empty log of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::commands::Outcome;
use crate::markdown::{self, Document};
use crate::process::output_of;
use crate::workspace::Workspace;

/// An `anabranch` command as a document writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mention {
    /// The file and line, for people.
    place: String,
    /// What follows the program's name.
    words: Vec<String>,
}

/// How many commands the documents name; fails if one of them does not exist.
pub fn commands_exist(workspace: &Workspace, program: &Path) -> Outcome<usize> {
    let mut help = Help {
        program,
        pages: BTreeMap::new(),
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in workspace.files()? {
        if file.path.ends_with(".md") {
            for mention in mentions(&file.path, &markdown::parse(&file.text)) {
                count += 1;
                if let Err(what) = help.knows(&mention.words) {
                    wrong.push(format!("{}: {what}", mention.place));
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(count)
    } else {
        Err(wrong.join("\n"))
    }
}

/// Runs the blocks that documents mark with `run`; gives how many there were.
///
/// `scratch` is emptied first; each document gets a directory in it for its log.
pub fn blocks_run(workspace: &Workspace, scratch: &Path) -> Outcome<usize> {
    let mut count = 0;
    for file in workspace.files()? {
        if !file.path.ends_with(".md") {
            continue;
        }
        let blocks = markdown::parse(&file.text).blocks;
        let runnable: Vec<_> = blocks.iter().filter(|b| b.info == "sh run").collect();
        if runnable.is_empty() {
            continue;
        }
        let dir = scratch.join(file.path.replace(['/', '.'], "-"));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for block in runnable {
            count += 1;
            let status = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &block.text])
                .env("ANABRANCH_LOG", dir.join("log"))
                .current_dir(&workspace.root)
                .stdin(Stdio::null())
                .status()
                .map_err(|error| format!("bash: {error}"))?;
            if !status.success() {
                return Err(format!(
                    "{}:{}: this block failed ({status}):\n{}",
                    file.path, block.line, block.text
                ));
            }
        }
    }
    Ok(count)
}

/// The help pages of the program, read as they are needed.
struct Help<'a> {
    program: &'a Path,
    pages: BTreeMap<Vec<String>, String>,
}

impl Help<'_> {
    fn page(&mut self, path: &[String]) -> Outcome<&str> {
        if !self.pages.contains_key(path) {
            let text = output_of(Command::new(self.program).args(path).arg("--help"))?;
            self.pages.insert(path.to_vec(), text);
        }
        Ok(&self.pages[path])
    }

    /// Follows the words down the tree of commands, then looks up the flags.
    fn knows(&mut self, words: &[String]) -> Outcome {
        let mut path: Vec<String> = Vec::new();
        for word in words {
            let commands = commands_of(self.page(&path)?);
            if commands.is_empty() || word.starts_with('-') {
                break;
            }
            if !commands.contains(word) {
                // What is no command of its own may be what the command is about.
                if takes_arguments(self.page(&path)?) {
                    break;
                }
                return Err(format!(
                    "`anabranch {}` has no command {word:?}; it has {}",
                    path.join(" "),
                    commands.join(", ")
                ));
            }
            path.push(word.clone());
        }
        let page = self.page(&path)?;
        // What stands behind `--` is for another program.
        let own = words.iter().take_while(|word| *word != "--");
        for word in own.filter(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap_or(word);
            let listed = page
                .split(|c: char| !(c.is_alphanumeric() || c == '-'))
                .any(|known| known == flag);
            if !listed {
                return Err(format!("`anabranch {}` has no {flag}", path.join(" ")));
            }
        }
        Ok(())
    }
}

/// The commands that a help page lists below `Commands:`.
fn commands_of(page: &str) -> Vec<String> {
    page.lines()
        .skip_while(|line| line.trim() != "Commands:")
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        // Continued descriptions are indented further than the names.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn takes_arguments(page: &str) -> bool {
    page.lines().any(|line| line.trim() == "Arguments:")
}

fn mentions(path: &str, document: &Document) -> Vec<Mention> {
    let spans = document.spans.iter().cloned();
    let blocks = document.blocks.iter().flat_map(|block| {
        let is_shell = ["sh", "console"].contains(&block.info.split(' ').next().unwrap_or(""));
        let text = if is_shell { block.text.as_str() } else { "" };
        let joined = text.replace("\\\n", " ");
        let lines: Vec<_> = joined.lines().map(str::to_owned).collect();
        lines.into_iter().map(move |line| (block.line, line))
    });
    spans
        .chain(blocks)
        .flat_map(|(line, text)| {
            let parts = text
                .split(['|', ';', '&', '#'])
                .filter_map(words_after_program);
            let place = format!("{path}:{}", line + 1);
            parts
                .map(|words| Mention {
                    place: place.clone(),
                    words,
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What follows `anabranch`, or `cargo run … --` of the workspace's default program.
fn words_after_program(command: &str) -> Option<Vec<String>> {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let texts: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .skip_while(|word| *word == "$" || word.contains('='))
        .collect();
    let arguments = match texts.as_slice() {
        ["anabranch", rest @ ..] => rest,
        ["cargo", "run", rest @ ..] => {
            let end = rest.iter().position(|word| *word == "--")?;
            let of_another = ["-p", "--package", "--bin", "--example"];
            if rest[..end].iter().any(|word| of_another.contains(word)) {
                return None;
            }
            &rest[end + 1..]
        }
        _ => return None,
    };
    Some(arguments.iter().map(|word| (*word).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_spans() {
        let text = "Run `anabranch log verify`, not `anabranchia`.\n\
            ```sh\n\
            cargo run --release -p retail -- day.csv \\\n  | cargo run --release -- import -  # all of it\n\
            X=1 anabranch read --limit 3\n\
            ```\n";
        let found = mentions("a.md", &markdown::parse(text));
        let words: Vec<String> = found.iter().map(|m| m.words.join(" ")).collect();
        assert_eq!(words, ["log verify", "import -", "read --limit 3"]);
        assert_eq!(found[0].place, "a.md:1");
    }

    #[test]
    fn a_help_page_lists_its_commands() {
        let page = "Does things\n\nUsage: x <COMMAND>\n\nCommands:\n  append  Writes\n            more\n  help    Print\n\nOptions:\n  -h\n";
        assert_eq!(commands_of(page), ["append", "help"]);
        assert!(commands_of("Usage: x\n").is_empty());
    }

    #[test]
    fn commands_and_flags_that_do_not_exist_are_told() {
        let page = |text: &str| text.to_owned();
        let mut help = Help {
            program: Path::new("never-started"),
            pages: BTreeMap::from([
                (
                    vec![],
                    page("Commands:\n  read  Reads\n  deploy  Rolls\n\n"),
                ),
                (
                    vec!["read".to_owned()],
                    page("Options:\n      --limit <N>\n"),
                ),
                (
                    vec!["deploy".to_owned()],
                    page(
                        "Commands:\n  check  Looks\n\nArguments:\n  [SERVICE]\n\n      --up <FILE>\n",
                    ),
                ),
            ]),
        };
        let mut knows = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            help.knows(&words)
        };
        assert_eq!(knows("read --limit=3"), Ok(()));
        assert_eq!(knows("deploy pricing --up f -- --limit 3"), Ok(()));
        assert!(knows("deploy pricing --limit 3").is_err());
        assert!(knows("write").unwrap_err().contains("no command \"write\""));
        assert!(knows("read --lim").unwrap_err().contains("has no --lim"));
    }
}
