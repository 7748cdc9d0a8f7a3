//! Which file of a crate may know which: none that knows it, not even through others.
//!
//! A file uses another when a `use` or a path in its code leads to what the other *defines*.
//! So `use super::Page` leads to the parent's file when the parent defines `Page`, and to
//! `page.rs` when the parent only hands it on. No use are:
//!
//! * `mod child;` and `pub use child::Page;`, which only say how the crate is put together,
//!   unless the file's own code names `Page` too;
//! * a module's name alone (`use crate::logs;`): what is used is what stands behind it
//!   (`logs::open`);
//! * code for tests (`#[cfg(test)]`) and test programs (`tests/`).
//!
//! Methods that are called without a path (`page.seal()`) are not seen.
//!
//! The same holds for folders: of the modules that stand side by side, each with all that is in
//! it, none uses another in a circle, not even through different files.

mod graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::Outcome;
use crate::known::Known;
use crate::workspace::{Package, SourceFile, Workspace};

/// The files that still stand in a circle. It may only get shorter, and goes when it is empty.
const KNOWN: &str = "xtask/known/circles.txt";

/// A circle of files, as a person wants to see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    /// Every file in it, sorted.
    pub files: Vec<String>,
    /// The shortest way from one of them to itself.
    pub way: Vec<String>,
}

/// `cargo xtask layers --files`: says that no files use one another in a circle, or which do.
pub fn command(workspace: &Workspace) -> Outcome {
    let files = workspace.files()?;
    let (circles, count) = circles(&workspace.packages()?, &files)?;
    let known = Known::read(workspace, KNOWN)?;
    let found = unknown(&circles, &known);
    for circle in &circles {
        println!(
            "circle of {} files: {}\n    all of it: {}",
            circle.files.len(),
            circle.way.join(" → "),
            circle.files.join(" ")
        );
    }
    if !found.is_empty() {
        return Err(format!(
            "{}\n\nlayers: {} found",
            found.join("\n"),
            found.len()
        ));
    }
    match circles.len() {
        0 => println!("layers: {count} files, none uses another in a circle"),
        n => println!("layers: {count} files, {n} circles, all of them in {KNOWN}"),
    }
    Ok(())
}

/// How many circles stand, known or not, and how many files were read.
pub fn standing(workspace: &Workspace) -> Outcome<(usize, usize)> {
    let (circles, count) = circles(&workspace.packages()?, &workspace.files()?)?;
    Ok((circles.len(), count))
}

/// Everything about circles that is not as the list of the known ones says.
fn unknown(circles: &[Circle], known: &Known) -> Vec<String> {
    let mut found = Vec::new();
    let mut standing = BTreeSet::new();
    for circle in circles {
        standing.extend(circle.files.iter().map(String::as_str));
        let new = circle.files.iter().filter(|file| !known.has(file));
        let new: Vec<&str> = new.map(String::as_str).collect();
        if !new.is_empty() {
            found.push(format!(
                "{}: in a circle: {}; move what both need into a file that knows neither",
                new.join(", "),
                circle.way.join(" → ")
            ));
        }
    }
    for file in known.names().filter(|file| !standing.contains(file)) {
        found.push(format!(
            "{file}: in no circle any more: take it off {KNOWN}"
        ));
    }
    found
}

/// The circles of all crates, and how many files were read.
fn circles(packages: &[Package], files: &[SourceFile]) -> Outcome<(Vec<Circle>, usize)> {
    let by_path: BTreeMap<&str, &SourceFile> = files
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let mut found = Vec::new();
    let mut count = 0;
    for package in packages {
        let source = format!("{}/src/", package.dir);
        let roots = by_path.keys().filter(|path| {
            let name = path.strip_prefix(&source);
            name.is_some_and(|name| {
                name == "lib.rs"
                    || name == "main.rs"
                    || name
                        .strip_prefix("bin/")
                        .is_some_and(|name| !name.contains('/'))
            })
        });
        for root in roots {
            let read = graph::Crate::read(&by_path, root)?;
            count += read.files.len();
            let arrows = read.arrows();
            for circle in graph::circles(&arrows) {
                let name = |index: &usize| read.files[*index].clone();
                let mut files: Vec<String> = circle.iter().map(name).collect();
                files.sort();
                let way = way(&arrows, &circle).iter().map(name).collect();
                found.push(Circle { files, way });
            }
            found.extend(circles_of_folders(&read.files, &arrows));
        }
    }
    Ok((found, count))
}

/// The circles among modules side by side of which one at least is a folder.
fn circles_of_folders(files: &[String], arrows: &[Vec<usize>]) -> Vec<Circle> {
    let mut levels: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (from, to) in arrows.iter().enumerate() {
        for to in to {
            if let Some((level, pair)) = side_by_side(&files[from], &files[*to]) {
                levels.entry(level).or_default().insert(pair);
            }
        }
    }
    let mut found = Vec::new();
    for pairs in levels.into_values() {
        let names: BTreeSet<&str> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let of = |from: &&str| {
            let used = (0..names.len()).filter(|to| pairs.contains(&(*from, names[*to])));
            used.collect::<Vec<_>>()
        };
        let arrows: Vec<Vec<usize>> = names.iter().map(of).collect();
        let is_file = |name: &str| {
            !files
                .iter()
                .any(|file| file.starts_with(&format!("{name}/")))
        };
        for circle in graph::circles(&arrows) {
            if circle.iter().all(|index| is_file(names[*index])) {
                continue;
            }
            let name = |index: &usize| format!("{}/", names[*index]);
            found.push(Circle {
                files: circle.iter().map(name).collect(),
                way: way(&arrows, &circle).iter().map(name).collect(),
            });
        }
    }
    found
}

/// Of two files the folder that both are in, and the modules below it that they belong to; none
/// if that is the same, or if one of them is the folder's own file.
fn side_by_side<'a>(from: &'a str, to: &'a str) -> Option<(&'a str, (&'a str, &'a str))> {
    let same = from
        .bytes()
        .zip(to.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let level = from[..same].rfind('/')?;
    let module = |path: &'a str| {
        let below = &path[level + 1..];
        let end = below.find('/').unwrap_or(below.len());
        let name = path[..level + 1 + end].trim_end_matches(".rs");
        let is_own = ["lib.rs", "main.rs", "mod.rs"].contains(&below);
        (!is_own).then_some(name)
    };
    let (from, to) = (module(from)?, module(to)?);
    (from != to).then_some((&from[..level], (from, to)))
}

/// The shortest way within a circle from a node back to itself.
fn way(arrows: &[Vec<usize>], circle: &[usize]) -> Vec<usize> {
    let ways = circle.iter().filter_map(|from| {
        let mut before = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([*from]);
        while let Some(node) = open.pop_front() {
            for next in arrows[node].iter().filter(|next| circle.contains(next)) {
                if next == from {
                    let mut way = vec![*from, node];
                    let mut at = node;
                    while at != *from {
                        at = before[&at];
                        way.push(at);
                    }
                    way.reverse();
                    return Some(way);
                }
                if !before.contains_key(next) {
                    before.insert(*next, node);
                    open.push_back(*next);
                }
            }
        }
        None
    });
    ways.min_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a crate of these files, each as its files' names.
    fn found(texts: &[(&str, &str)]) -> Vec<Vec<String>> {
        let file = |(path, text): &(&str, &str)| SourceFile {
            path: format!("crates/x/src/{path}"),
            text: (*text).to_owned(),
        };
        let files: Vec<SourceFile> = texts.iter().map(file).collect();
        let package = Package {
            name: "x".to_owned(),
            dir: "crates/x".to_owned(),
            layer: Some(1),
            dependencies: Vec::new(),
        };
        let (circles, count) = circles(&[package], &files).unwrap();
        assert_eq!(count, texts.len(), "a file was not read");
        let short = |file: &String| file.trim_start_matches("crates/x/src/").to_owned();
        let names = |circle: &Circle| circle.files.iter().map(short).collect();
        circles.iter().map(names).collect()
    }

    #[test]
    fn two_files_that_use_one_another_are_a_circle() {
        let lib = ("lib.rs", "mod a;\nmod b;\n");
        let a = ("a.rs", "use crate::b::B;\npub struct A(B);\n");
        let uses = ["use crate::a::A;", "use super::a::A;", "use crate::{a::A};"];
        for it in uses {
            let b = format!("{it}\npub struct B(Box<A>);\n");
            assert_eq!(found(&[lib, a, ("b.rs", &b)]), [["a.rs", "b.rs"]], "{it}");
        }
        assert!(found(&[lib, a, ("b.rs", "pub struct B;\n")]).is_empty());
    }

    #[test]
    fn a_path_in_the_code_is_a_use_too() {
        let lib = ("lib.rs", "mod a;\nmod b;\n");
        let a = ("a.rs", "use crate::b;\npub fn a() { b::b(); }\n");
        let codes = [
            "pub fn b() { crate::a::a(); }",
            "pub fn b() { print(format!(\"{:?}\", super::a::a())); }",
            "pub fn b() { use crate::a::{a}; a() }",
            "#[serde(with = \"crate::a\")] pub struct B; pub fn b() { crate::a::a() }",
        ];
        for code in codes {
            assert_eq!(
                found(&[lib, a, ("b.rs", code)]),
                [["a.rs", "b.rs"]],
                "{code}"
            );
        }
        assert!(
            found(&[
                lib,
                a,
                ("b.rs", "/// See [`crate::a::a`].\npub fn b() {}\n")
            ])
            .is_empty()
        );
    }

    #[test]
    fn a_circle_through_three_files_is_found() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b::b;\npub fn a() { b() }\n"),
            ("b.rs", "use crate::c::c;\npub fn b() { c() }\n"),
            ("c.rs", "use crate::a::a;\npub fn c() { a() }\n"),
        ];
        assert_eq!(found(&files), [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn a_child_and_the_parent_that_uses_it_are_a_circle() {
        let child = ("a/child.rs", "use super::A;\npub fn f(_: A) {}\n");
        let uses = "mod child;\npub struct A;\npub fn g() { child::f(A) }\n";
        let files = [("lib.rs", "mod a;\n"), ("a/mod.rs", uses), child];
        assert_eq!(found(&files), [["a/child.rs", "a/mod.rs"]]);
        let hands_on = "mod child;\npub use child::f;\npub struct A;\n";
        let files = [("lib.rs", "mod a;\n"), ("a.rs", hands_on), child];
        assert!(found(&files).is_empty());
        let hands_on_and_uses =
            "mod child;\npub use child::f;\npub struct A;\npub fn g() { f(A) }\n";
        let files = [("lib.rs", "mod a;\n"), ("a.rs", hands_on_and_uses), child];
        assert_eq!(found(&files), [["a.rs", "a/child.rs"]]);
    }

    #[test]
    fn what_a_parent_hands_on_leads_to_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;\n"),
            ("a.rs", "use crate::B;\npub struct A(B);\n"),
            ("b.rs", "use crate::A;\npub struct B(Box<A>);\n"),
        ];
        assert_eq!(found(&files), [["a.rs", "b.rs"]]);
    }

    #[test]
    fn two_folders_that_use_one_another_through_different_files_are_a_circle() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a/mod.rs", "pub mod x;\npub mod y;\n"),
            ("a/x.rs", "use crate::b::B;\npub struct A(B);\n"),
            ("a/y.rs", "pub struct Y;\n"),
            ("b.rs", "use crate::a::y::Y;\npub struct B(Y);\n"),
        ];
        assert_eq!(found(&files), [["a/", "b/"]]);
    }

    #[test]
    fn tests_may_use_whom_they_like() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
            (
                "b.rs",
                "pub struct B;\n#[cfg(test)]\nmod tests {\n use crate::a::A;\n}\n",
            ),
        ];
        assert!(found(&files).is_empty());
    }

    #[test]
    fn a_new_circle_and_one_that_is_gone_are_both_told() {
        let circle = |files: [&str; 2]| Circle {
            files: files.map(str::to_owned).to_vec(),
            way: vec![],
        };
        let known = Known::parse("a.rs\nb.rs\n");
        assert!(unknown(&[circle(["a.rs", "b.rs"])], &known).is_empty());
        assert!(unknown(&[circle(["a.rs", "c.rs"])], &known)[0].starts_with("c.rs: in a circle"));
        assert!(unknown(&[], &known)[0].contains("a.rs: in no circle any more"));
    }

    #[test]
    fn this_workspace_has_no_circle_that_is_not_known() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.packages().unwrap();
        let (circles, count) = circles(&packages, &workspace.files().unwrap()).unwrap();
        assert!(count > 200, "only {count} files found");
        let found = unknown(&circles, &Known::read(&workspace, KNOWN).unwrap());
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }
}
