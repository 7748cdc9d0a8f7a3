use std::sync::{Mutex, PoisonError};

/// What an engine is called, for as long as the program runs. There are few, and who asks for
/// more gets a name for all of them.
pub(crate) fn kept(name: &str) -> &'static str {
    const NAMES_MAX: usize = 64;
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.iter().find(|known| **known == name) {
        return known;
    }
    if names.len() >= NAMES_MAX || name.len() > 256 {
        return "do what was asked";
    }
    let kept = Box::leak(name.to_owned().into_boxed_str());
    names.push(kept);
    kept
}
