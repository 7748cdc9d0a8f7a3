/// A log in memory, for tests and for trying things out. Gone with its value.
#[derive(Debug, Default)]
pub struct MemoryLog {}
