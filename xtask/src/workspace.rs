//! The workspace as the checks see it: its root, its files, its packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::commands::Outcome;
use crate::process::output_of;

/// A workspace on disk.
pub struct Workspace {
    /// The directory with the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

/// A text file of the workspace.
pub struct SourceFile {
    /// From the root, with `/` between the parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// A crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its directory, from the root.
    pub dir: String,
    /// The layer it declares in `[package.metadata.anabranch]`.
    pub layer: Option<u64>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
}

/// A dependency as a manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The name of the package depended on.
    pub name: String,
    /// What it is for.
    pub kind: DependencyKind,
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyKind {
    /// The crate itself or its build script.
    Code,
    /// Tests, examples and benches only.
    Dev,
}

/// Directories that hold nothing a person wrote.
const MADE_BY_TOOLS: [&str; 4] = [".git", "target", ".anabranch", "__pycache__"];

/// What people write. Everything else (data, lock files) is not checked as text.
const WRITTEN_BY_PEOPLE: [&str; 9] = [
    ".rs",
    ".toml",
    ".md",
    ".py",
    ".sh",
    ".yml",
    ".yaml",
    ".ci/run",
    ".gitignore",
];

impl Workspace {
    /// The workspace around the current directory.
    pub fn find() -> Outcome<Self> {
        let manifest = output_of(Command::new(env!("CARGO")).args([
            "locate-project",
            "--workspace",
            "--message-format",
            "plain",
        ]))?;
        let root = Path::new(manifest.trim())
            .parent()
            .ok_or_else(|| format!("{manifest:?} has no directory"))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Whether there is a file or directory at this path from the root.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// One file's text.
    pub fn read(&self, path: &str) -> Outcome<String> {
        std::fs::read_to_string(self.root.join(path)).map_err(|error| format!("{path}: {error}"))
    }

    /// Every text file that people wrote, sorted by path.
    pub fn files(&self) -> Outcome<Vec<SourceFile>> {
        let mut paths = Vec::new();
        walk(&self.root, "", &mut paths)?;
        paths.sort();
        paths
            .into_iter()
            .map(|path| {
                let text = self.read(&path)?;
                Ok(SourceFile { path, text })
            })
            .collect()
    }

    /// The crates of the workspace, as their manifests declare them.
    pub fn packages(&self) -> Outcome<Vec<Package>> {
        let metadata = self.metadata(&["--no-deps"])?;
        parse_packages(&metadata)
    }

    /// Where cargo puts what it builds.
    pub fn target(&self) -> Outcome<PathBuf> {
        let metadata = self.metadata(&["--no-deps"])?;
        let target = metadata["target_directory"].as_str();
        Ok(PathBuf::from(
            target.ok_or("cargo metadata names no target directory")?,
        ))
    }

    /// What `cargo metadata` says.
    pub fn metadata(&self, arguments: &[&str]) -> Outcome<Value> {
        let text = output_of(
            Command::new(env!("CARGO"))
                .args(["metadata", "--format-version", "1"])
                .args(arguments)
                .current_dir(&self.root),
        )?;
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
    }
}

fn walk(dir: &Path, prefix: &str, paths: &mut Vec<String>) -> Outcome {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("{}: {error}", dir.display()))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(format!("{}: a file name is not UTF-8", dir.display()));
        };
        let path = format!("{prefix}{name}");
        let kind = entry
            .file_type()
            .map_err(|error| format!("{path}: {error}"))?;
        if kind.is_dir() && !MADE_BY_TOOLS.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), paths)?;
        } else if kind.is_file() && WRITTEN_BY_PEOPLE.iter().any(|end| path.ends_with(end)) {
            paths.push(path);
        }
    }
    Ok(())
}

fn parse_packages(metadata: &Value) -> Outcome<Vec<Package>> {
    let text = |value: &Value, key: &str| match value[key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("cargo metadata: no {key:?} in a package")),
    };
    let root = text(metadata, "workspace_root")?;
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = text(package, "manifest_path")?;
        let dir = manifest
            .trim_start_matches(&root)
            .trim_start_matches('/')
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/');
        let mut dependencies = Vec::new();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            dependencies.push(Dependency {
                name: text(dependency, "name")?,
                kind: match dependency["kind"].as_str() {
                    Some("dev") => DependencyKind::Dev,
                    _ => DependencyKind::Code,
                },
            });
        }
        packages.push(Package {
            name: text(package, "name")?,
            dir: dir.to_owned(),
            layer: package["metadata"]["anabranch"]["layer"].as_u64(),
            dependencies,
        });
    }
    packages.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
    Ok(packages)
}
