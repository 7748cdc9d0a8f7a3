//! Streams of the platform that stand beside those of entities, so that one append writes both.

use anabranch_model::{NameError, StreamId};

/// The stream of this category of the platform beside `stream`. Where all stand in one partition,
/// one for the category is enough; of several each has its own, which
/// [the layout](anabranch_log::Layout::partition_of) puts beside it.
pub fn beside(
    category: &str,
    stream: &StreamId,
    many_partitions: bool,
) -> Result<StreamId, NameError> {
    let about = match many_partitions {
        true => stream.as_str(),
        false => stream.category(),
    };
    StreamId::system(format!("{category}/{about}"))
}
