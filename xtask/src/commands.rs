//! The words of `cargo xtask`, and what a command gives.

/// What a command gives: its value, or one message for the person who ran it.
pub type Outcome<T = ()> = Result<T, String>;

/// Every command: its words, and what it does. A word in brackets may be left out.
pub const COMMANDS: [(&str, &str); 14] = [
    (
        "layers",
        "check that every crate depends on lower layers only",
    ),
    (
        "layers --files",
        "check that no files or folders of a crate use one another in a circle: a use is a path \
         to what the other defines, not `mod x;`, not `pub use x::Y;`, and nothing in tests",
    ),
    (
        "tidy",
        "check sources, manifests, documents and dependencies against the rules",
    ),
    (
        "test",
        "build and run everything that must hold, and count it",
    ),
    (
        "described",
        "check the OpenAPI document, and the AsyncAPI document of a running shop with its events, \
         against the official schemas",
    ),
    ("ci", "format, lints, layers, docs, licences, then `test`"),
    (
        "backends up",
        "start the servers that tests need, and say where they are",
    ),
    (
        "backends down",
        "stop these servers, and remove what they hold",
    ),
    (
        "backends status",
        "say whether these servers run, and where",
    ),
    (
        "build-times",
        "print what compiling a service author's crate costs, in a target folder of its own",
    ),
    (
        "show house [N]",
        "show how the project is built inside and how fast it is: all items, or the N-th",
    ),
    (
        "show faults [N] [--minutes M]",
        "show that faults which were found do not come back: all items, or the N-th; the shop at \
         a steady rate for M minutes, 60 unless told",
    ),
    (
        "show backbone [N]",
        "show the services as processes of their own on one shared log: all items, or the N-th",
    ),
    (
        "show partitions [N]",
        "show order where it is needed, causes everywhere, and other engines: all items, or the N-th",
    ),
];

/// The words of the command that a person typed, without those in brackets, and what stands
/// in the place of these.
pub fn find(typed: &str) -> Option<(&'static str, Option<&str>)> {
    COMMANDS.iter().find_map(|(words, _)| {
        let Some((words, _)) = words.split_once(" [") else {
            return (*words == typed).then_some((*words, None));
        };
        let rest = typed.strip_prefix(words)?;
        match rest.strip_prefix(' ') {
            Some(argument) => Some((words, Some(argument))),
            None => rest.is_empty().then_some((words, None)),
        }
    })
}
