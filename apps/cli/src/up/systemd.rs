//! The same services as units of systemd.

use super::plan::{Declared, Plan};

/// The units, each behind a line that says what its file is called.
pub fn units(plan: &Plan, this_program: &str) -> String {
    let mut text = String::new();
    for (name, declared) in &plan.services {
        text += &unit(name, declared, plan, this_program);
    }
    text
}

fn unit(name: &str, declared: &Declared, plan: &Plan, this_program: &str) -> String {
    let program = match declared.program.as_str() {
        "anabranch" => this_program.to_owned(),
        // systemd wants the path from the root, or a name that it looks for.
        relative if relative.contains('/') => declared.dir.join(relative).display().to_string(),
        other => other.to_owned(),
    };
    let words = std::iter::once(&program).chain(&declared.args);
    let command: Vec<_> = words.map(|word| quoted(word)).collect();
    let needs: Vec<_> = declared
        .needs
        .iter()
        .map(|need| format!("{need}.service"))
        .collect();
    let mut unit = format!("# {name}.service\n[Unit]\nDescription={name}\n");
    if !needs.is_empty() {
        // One that is started again does not stop those that need it.
        let needs = needs.join(" ");
        unit += &format!("Wants={needs}\nAfter={needs}\n");
    }
    unit += &format!(
        "\n[Service]\nType=exec\nExecStart={}\nWorkingDirectory={}\n",
        command.join(" "),
        declared.dir.display()
    );
    for (variable, value) in &declared.env {
        unit += &format!("Environment={}\n", quoted(&format!("{variable}={value}")));
    }
    unit += &format!(
        "Restart=always\nRestartSec=100ms\nRestartSteps=8\nRestartMaxDelaySec=30s\n\
         TimeoutStopSec={}s\nNoNewPrivileges=yes\n\n[Install]\nWantedBy=default.target\n\n",
        plan.stop_within.as_secs().max(1)
    );
    unit
}

/// A word as systemd reads it: quoted where it is more than a plain word, and no `%` or `$` means
/// anything.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn units_say_what_the_file_says() {
        let plan = Plan::parse(
            "stop_within = \"20s\"\n\
             [service.log]\nprogram = \"anabranch\"\nargs = [\"serve\", \"--log\", \"./my log\"]\n\
             [service.till]\nprogram = \"./till\"\nneeds = [\"log\"]\nenv = { RATE = \"5%\" }\n",
            Path::new("/srv/shop"),
        )
        .unwrap();
        let units = units(&plan, "/usr/bin/anabranch");
        for line in [
            "# log.service",
            "ExecStart=/usr/bin/anabranch serve --log \"./my log\"",
            "# till.service",
            "Wants=log.service",
            "After=log.service",
            "ExecStart=/srv/shop/./till",
            "WorkingDirectory=/srv/shop",
            "Environment=\"RATE=5%%\"",
            "TimeoutStopSec=20s",
        ] {
            assert!(units.lines().any(|said| said == line), "{line}: {units}");
        }
    }
}
