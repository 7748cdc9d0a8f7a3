use serde::Serialize;

/// A hash of what a command says; `None` if it cannot be written. Neither the order of members
/// nor those that are null make a difference.
pub fn content_of(command: &impl Serialize) -> Option<u64> {
    fn drop_nulls(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                members.retain(|_, value| !value.is_null());
                members.values_mut().for_each(drop_nulls);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(command).ok()?;
    drop_nulls(&mut value);
    value.sort_all_objects();
    Some(anabranch_model::content_hash([value.to_string().as_bytes()]) as u64)
}
