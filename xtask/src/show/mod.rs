//! `cargo xtask show`: lists of what the project can show, each item run as a person would run it.
//!
//! An item gives its figure, or says what is missing. So what is not there yet fails in words.

mod backbone;
mod deploys;
mod faults;
mod house;
mod item;
mod partitions;
mod security;
mod shop_run;
mod split_shop;
pub mod tools;

use item::{Item, Run};

use crate::commands::Outcome;
use crate::process::announce;
use crate::workspace::Workspace;

/// `cargo xtask show house [N]`: how the project is built inside, and how fast it is.
pub fn house(workspace: &Workspace, asked: Option<&str>) -> Outcome {
    run(workspace, "house", &house::ITEMS, asked)
}

/// `cargo xtask show faults [N] [--minutes M]`: that faults which were found do not come back.
pub fn faults(workspace: &Workspace, asked: Option<&str>) -> Outcome {
    run(workspace, "faults", &faults::ITEMS, asked)
}

/// `cargo xtask show backbone [N]`: every service a process of its own, on one shared log.
pub fn backbone(workspace: &Workspace, asked: Option<&str>) -> Outcome {
    run(workspace, "backbone", &backbone::ITEMS, asked)
}

/// `cargo xtask show partitions [N]`: order where it is needed, causes everywhere.
pub fn partitions(workspace: &Workspace, asked: Option<&str>) -> Outcome {
    run(workspace, "partitions", &partitions::ITEMS, asked)
}

/// How long an item goes on that has no end of its own.
const MINUTES: f64 = 60.0;

fn run(workspace: &Workspace, list: &str, items: &[Item], asked: Option<&str>) -> Outcome {
    let (number, minutes) = match asked.and_then(|text| text.split_once("--minutes")) {
        None => (asked, MINUTES),
        Some((number, minutes)) => (
            Some(number.trim()).filter(|number| !number.is_empty()),
            self::minutes(minutes.trim())?,
        ),
    };
    let chosen = chosen(items.len(), list, number)?;
    let (mut passed, mut failed) = (0, 0);
    let mut lines = Vec::new();
    for index in chosen {
        let item = &items[index];
        announce(&format!("{list} {}: {}", index + 1, item.says));
        let shown = match item.run {
            Run::Once(run) => run(workspace),
            Run::Minutes(run) => run(workspace, minutes),
        };
        let line = match shown {
            Ok(figure) => {
                passed += 1;
                format!("{}. passed  {}\n           {figure}", index + 1, item.says)
            }
            Err(why) => {
                failed += 1;
                format!("{}. FAILED  {}\n           {why}", index + 1, item.says)
            }
        };
        println!("{line}");
        lines.push(line);
    }
    if lines.len() > 1 {
        println!("\n{}", lines.join("\n"));
    }
    println!("\n{passed} passed, {failed} failed");
    match failed {
        0 => Ok(()),
        failed => Err(format!("cargo xtask show {list}: {failed} failed")),
    }
}

/// As many minutes as this text says.
fn minutes(text: &str) -> Outcome<f64> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e6 => Ok(minutes),
        _ => Err(format!(
            "--minutes wants a number of minutes above 0, not {text:?}"
        )),
    }
}

/// The items to run, counted from 0: all of them, or the one that was named, from 1.
fn chosen(count: usize, list: &str, number: Option<&str>) -> Outcome<Vec<usize>> {
    let Some(text) = number else {
        return Ok((0..count).collect());
    };
    match text.parse::<usize>() {
        Ok(number) if (1..=count).contains(&number) => Ok(vec![number - 1]),
        _ => Err(format!(
            "cargo xtask show {list}: there is no item {text:?}; name one from 1 to {count}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: [Item; 2] = [
        Item {
            says: "it is there",
            run: Run::Once(|_| Ok("1 of 1".to_owned())),
        },
        Item {
            says: "it is missing",
            run: Run::Once(|_| Err("nothing is there".to_owned())),
        },
    ];

    #[test]
    fn an_item_that_cannot_be_shown_fails_the_list() {
        let workspace = Workspace::find().unwrap();
        assert_eq!(run(&workspace, "x", &ITEMS, Some("1")), Ok(()));
        let failed = Err("cargo xtask show x: 1 failed".to_owned());
        assert_eq!(run(&workspace, "x", &ITEMS, Some("2")), failed);
        assert_eq!(run(&workspace, "x", &ITEMS, None), failed);
    }

    #[test]
    fn an_item_without_an_end_goes_on_for_the_minutes_that_are_asked() {
        const LONG: [Item; 1] = [Item {
            says: "it goes on",
            run: Run::Minutes(|_, minutes| Err(format!("{minutes}")).or_else(expected)),
        }];
        fn expected(minutes: String) -> Outcome<String> {
            if minutes == "2.5" {
                Ok(minutes)
            } else {
                Err(minutes)
            }
        }
        let workspace = Workspace::find().unwrap();
        for asked in ["1 --minutes 2.5", "--minutes 2.5"] {
            assert_eq!(run(&workspace, "x", &LONG, Some(asked)), Ok(()), "{asked}");
        }
        assert!(run(&workspace, "x", &LONG, Some("1")).is_err());
        for wrong in ["1 --minutes", "--minutes -1", "--minutes x"] {
            assert!(run(&workspace, "x", &LONG, Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_item_that_is_not_on_the_list_is_refused() {
        for wrong in ["0", "3", "x", "-1"] {
            let refused = chosen(2, "x", Some(wrong)).unwrap_err();
            assert!(refused.ends_with("name one from 1 to 2"), "{refused}");
        }
    }
}
