//! The files of one crate, which uses which, and the circles among them.

use std::collections::BTreeMap;

use super::source::{self, Import, Module};
use crate::commands::Outcome;
use crate::workspace::SourceFile;

/// An import that leads to an import and so on ends after so many steps.
const STEPS_MAX: usize = 16;

/// The files that one root (`src/lib.rs`, `src/main.rs`) consists of.
#[derive(Debug, Default)]
pub struct Crate {
    /// The files' paths from the root of the workspace.
    pub files: Vec<String>,
    modules: Vec<Module>,
    /// The files of macros, which are known in the whole crate.
    macros: BTreeMap<String, usize>,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To a module as such.
    Module(usize),
    /// To what this file defines.
    File(usize),
}

impl Crate {
    /// Reads the crate that begins with the file `root`.
    pub fn read(files: &BTreeMap<&str, &SourceFile>, root: &str) -> Outcome<Self> {
        let mut read = Self::default();
        let mut open = vec![(root.to_owned(), None, String::new())];
        while let Some((path, parent, name)) = open.pop() {
            let Some(file) = files.get(path.as_str()) else {
                // Made by a build script, or kept back by a feature of another system.
                continue;
            };
            let own = read.modules.len();
            read.modules.push(Module {
                file: read.files.len(),
                parent,
                ..Module::default()
            });
            read.files.push(path.clone());
            if let Some(parent) = parent {
                read.modules[parent].children.insert(name, own);
            }
            let (children, macros) = source::read(&file.text, own, &mut read.modules)
                .map_err(|error| format!("{path}: {error}"))?;
            let index = read.modules[own].file;
            read.macros
                .extend(macros.into_iter().map(|name| (name, index)));
            for child in children.into_iter().rev() {
                let place = child_path(&path, &child, files);
                open.push((place, Some(child.parent), child.name));
            }
        }
        Ok(read)
    }

    /// For each file the files that it uses, by index, sorted.
    pub fn arrows(&self) -> Vec<Vec<usize>> {
        let mut arrows = vec![Vec::new(); self.files.len()];
        for (index, module) in self.modules.iter().enumerate() {
            let to = &mut arrows[module.file];
            to.extend(self.used_by(index));
            to.retain(|file| *file != module.file);
            to.sort_unstable();
            to.dedup();
        }
        arrows
    }

    /// The files that a module uses.
    fn used_by(&self, index: usize) -> Vec<usize> {
        let module = &self.modules[index];
        let mut used = Vec::new();
        for import in module
            .imports
            .values()
            .filter(|import| !import.is_handed_on)
        {
            // To name a module is not to use it: what follows behind its name is.
            if let Some(Target::File(file)) = self.resolve(index, &import.path, 0) {
                used.push(file);
            }
        }
        for import in module.globs.iter().filter(|import| !import.is_handed_on) {
            match self.resolve(index, &import.path, 0) {
                Some(Target::File(file)) => used.push(file),
                Some(Target::Module(module)) => used.push(self.modules[module].file),
                None => {}
            }
        }
        for path in &module.mentions {
            if let Some(Target::File(file)) = self.resolve(index, path, 0) {
                used.push(file);
            }
        }
        used
    }

    /// Where a path leads that stands in the module `from`; none if out of the crate.
    fn resolve(&self, from: usize, path: &[String], steps: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        let mut at = from;
        let mut rest = rest;
        match first.as_str() {
            "crate" => at = self.root_of(from),
            "self" => {}
            "super" => at = self.modules[from].parent?,
            _ => rest = path,
        }
        let is_rooted = rest.len() < path.len();
        while is_rooted && rest.first().is_some_and(|name| name == "super") {
            at = self.modules[at].parent?;
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return Some(Target::Module(at));
        }
        self.within(at, rest, steps)
            .or_else(|| match self.macros.get(&rest[0]) {
                Some(file) if rest.len() == 1 && is_rooted => Some(Target::File(*file)),
                // Made by a macro: it stands where it is asked for.
                _ => is_rooted.then_some(Target::File(self.modules[at].file)),
            })
    }

    /// Where `path` leads whose first name is one of this module's.
    fn within(&self, at: usize, path: &[String], steps: usize) -> Option<Target> {
        if steps > STEPS_MAX {
            return None;
        }
        let (name, rest) = path.split_first()?;
        let module = &self.modules[at];
        let child = module.children.get(name).copied();
        if let (Some(child), false) = (child, rest.is_empty()) {
            if let Some(target) = self.within(child, rest, steps + 1) {
                return Some(target);
            }
            return Some(Target::File(self.modules[child].file));
        }
        if module.defines.contains(name) {
            return Some(Target::File(module.file));
        }
        if let Some(Import { path, .. }) = module.imports.get(name) {
            let whole = [path.as_slice(), rest].concat();
            // `use event::event` brings in what the child defines, not itself again.
            if whole.first() != Some(name) || module.children.contains_key(name) {
                return self.resolve(at, &whole, steps + 1);
            }
        }
        if let Some(child) = child {
            return Some(Target::Module(child));
        }
        module
            .globs
            .iter()
            .find_map(|glob| match self.resolve(at, &glob.path, steps + 1)? {
                Target::Module(there) if there != at => self.within(there, path, steps + 1),
                _ => None,
            })
    }

    fn root_of(&self, mut at: usize) -> usize {
        while let Some(parent) = self.modules[at].parent {
            at = parent;
        }
        at
    }
}

/// The file of a child module.
fn child_path(
    from: &str,
    child: &source::ChildFile,
    files: &BTreeMap<&str, &SourceFile>,
) -> String {
    let (dir, file) = from.rsplit_once('/').unwrap_or(("", from));
    if let Some(path) = &child.path {
        return format!("{dir}/{path}");
    }
    let dir = match file {
        "lib.rs" | "main.rs" | "mod.rs" => dir.to_owned(),
        file => format!("{dir}/{}", file.trim_end_matches(".rs")),
    };
    let dir = child
        .inside
        .iter()
        .fold(dir, |dir, name| format!("{dir}/{name}"));
    let flat = format!("{dir}/{}.rs", child.name);
    if files.contains_key(flat.as_str()) {
        flat
    } else {
        format!("{dir}/{}/mod.rs", child.name)
    }
}

/// The groups of nodes that reach one another, each sorted; without those of one node.
pub fn circles(arrows: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let reach: Vec<Vec<bool>> = (0..arrows.len())
        .map(|from| reached(arrows, from))
        .collect();
    let mut found: Vec<Vec<usize>> = Vec::new();
    for (node, there) in reach.iter().enumerate() {
        let and_back = |other: &usize| there[*other] && reach[*other][node];
        let circle: Vec<usize> = (0..arrows.len()).filter(and_back).collect();
        if circle.len() > 1 && circle[0] == node {
            found.push(circle);
        }
    }
    found
}

fn reached(arrows: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut seen = vec![false; arrows.len()];
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for next in &arrows[node] {
            if !seen[*next] {
                seen[*next] = true;
                open.push(*next);
            }
        }
    }
    seen
}
