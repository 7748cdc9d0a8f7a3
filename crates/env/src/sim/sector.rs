/// The unit that a power cut keeps, loses or tears: 512 bytes.
pub const SECTOR_BYTES: usize = 512;
