//! What services have sent, as the journals of their processes and sagas tell.

use std::collections::BTreeMap;

use anabranch::log::{Log, ReadMode};
use anabranch::model::{EventType, Filter};
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// The types of journals' events that say what is sent.
const TYPES: [&str; 3] = ["StepStarted", "CompStarted", "Received"];

/// How often something was sent to a category, by the journal that says so and by the category.
pub type Sent = BTreeMap<(String, String), u64>;

/// What the newest events of these journals say, so many of them.
pub async fn sent(log: &dyn Log, journals: Vec<String>, newest: u64) -> Result<Sent, Failure> {
    let mut sent = Sent::new();
    if journals.is_empty() || newest == 0 {
        return Ok(sent);
    }
    let types = TYPES
        .iter()
        .filter_map(|name| name.parse::<EventType>().ok());
    let filter = Filter {
        categories: journals,
        types: types.collect(),
        ..Filter::all()
    };
    let head = log.head().await?;
    let mut events = log.read(&head, filter, ReadMode::Backward);
    let mut seen = 0;
    while let Some(batch) = events.next_batch().await {
        for event in &batch? {
            let event = event.map_err(|error| {
                let what = format!("an event of a journal cannot be read: {error}");
                Failure::new(Exit::Failed, "unreadable", what).remedy(
                    "see `anabranch log verify`; with --newest 0 only what is declared is shown",
                )
            })?;
            // What another version wrote and this one does not know tells nothing.
            if let Ok(data) = serde_json::from_slice::<Value>(event.data) {
                let journal = event.category();
                for category in receivers(&data) {
                    *sent.entry((journal.to_owned(), category)).or_default() += 1;
                }
            }
            seen += 1;
            if seen == newest {
                return Ok(sent);
            }
        }
    }
    Ok(sent)
}

/// The categories that one event of a journal says something is sent to.
fn receivers(data: &Value) -> Vec<String> {
    let request = data.get("request");
    let asked = request.map(|request| request.get("Ask").unwrap_or(request));
    let actions = data.get("actions").and_then(Value::as_array);
    let all = asked.into_iter().chain(actions.into_iter().flatten());
    all.filter_map(receiver).collect()
}

fn receiver(asked: &Value) -> Option<String> {
    let stream = |place: &str| asked.pointer(place).and_then(Value::as_str);
    let stream = stream("/Command/to").or_else(|| stream("/Saga/saga"))?;
    Some(stream.split_once('/')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_journal_asks_for_is_found_and_what_it_has_heard_is_not() {
        for (data, expected) in [
            (
                json!({"step": "a", "request": {"Command": {"to": "stock/1"}}}),
                &["stock"][..],
            ),
            (
                json!({"request": {"Ask": {"Command": {"to": "order/1"}}}}),
                &["order"],
            ),
            (
                json!({"request": {"Saga": {"saga": "charging/1", "input": {}}}}),
                &["charging"],
            ),
            (json!({"request": {"Call": {"effect": "pay"}}}), &[]),
            (json!({"request": {"AbortSaga": "charging/1"}}), &[]),
            (
                json!({"input": {"Event": {"data": {"Command": {"to": "x/1"}}}}, "actions": [
                    {"Timer": {"name": "t"}}, {"Command": {"to": "price/1"}}, {"Command": {"to": "stock/2"}}
                ]}),
                &["price", "stock"],
            ),
        ] {
            assert_eq!(receivers(&data), expected, "{data}");
        }
    }
}
