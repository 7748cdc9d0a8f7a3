//! `cargo xtask show`: lists of what the project can show, each item run as a person would run it.
//!
//! An item gives its figure, or says what is missing. So what is not there yet fails in words.

mod faults;
mod house;
mod item;
mod tools;

use item::Item;

use crate::commands::Outcome;
use crate::process::announce;
use crate::workspace::Workspace;

/// `cargo xtask show house [N]`: how the project is built inside, and how fast it is.
pub fn house(workspace: &Workspace, number: Option<&str>) -> Outcome {
    run(workspace, "house", &house::ITEMS, number)
}

/// `cargo xtask show faults [N]`: that faults which were found do not come back.
pub fn faults(workspace: &Workspace, number: Option<&str>) -> Outcome {
    run(workspace, "faults", &faults::ITEMS, number)
}

fn run(workspace: &Workspace, list: &str, items: &[Item], number: Option<&str>) -> Outcome {
    let chosen = chosen(items.len(), list, number)?;
    let (mut passed, mut failed) = (0, 0);
    let mut lines = Vec::new();
    for index in chosen {
        let item = &items[index];
        announce(&format!("{list} {}: {}", index + 1, item.says));
        let line = match (item.run)(workspace) {
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
            run: |_| Ok("1 of 1".to_owned()),
        },
        Item {
            says: "it is missing",
            run: |_| Err("nothing is there".to_owned()),
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
    fn an_item_that_is_not_on_the_list_is_refused() {
        for wrong in ["0", "3", "x", "-1"] {
            let refused = chosen(2, "x", Some(wrong)).unwrap_err();
            assert!(refused.ends_with("name one from 1 to 2"), "{refused}");
        }
    }
}
