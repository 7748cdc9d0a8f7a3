use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::span::nanos;
use crate::value::{Resource, attribute, scope, text};

/// The body of a request to [`METRICS`](crate::METRICS), made of what a server says at `/metrics`, in the
/// text format of Prometheus; taken at this time, in microseconds since 1970. Each figure is a gauge of a
/// whole number; other lines are passed over. `None` if there is no figure.
pub fn metrics(resource: &Resource, said: &str, at: u64) -> Option<Vec<u8>> {
    let (mut help, mut figures) = (BTreeMap::new(), Vec::<(&str, Vec<Value>)>::new());
    for line in said.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap_or((rest, ""));
            help.insert(name, words);
        } else if let Some((name, labels, value)) = sample(line) {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| attribute(name, &text(value)))
                .collect();
            let point = json!({"attributes": labels, "timeUnixNano": nanos(at), "asInt": value.to_string()});
            match figures.last_mut().filter(|(known, _)| *known == name) {
                Some((_, points)) => points.push(point),
                None => figures.push((name, vec![point])),
            }
        }
    }
    let figure = |(name, points): &(&str, Vec<Value>)| {
        let words = help.get(name).copied().unwrap_or_default();
        json!({"name": name, "description": words, "gauge": {"dataPoints": points}})
    };
    let all: Vec<_> = figures.iter().map(figure).collect();
    let of_scope = json!([{"scope": scope(), "metrics": all}]);
    let of_resource = json!([{"resource": resource.json(), "scopeMetrics": of_scope}]);
    let body = json!({ "resourceMetrics": of_resource });
    (!figures.is_empty()).then(|| body.to_string().into_bytes())
}

type Labels = Vec<(String, String)>;

/// A line such as `name{label="value"} 5`.
fn sample(line: &str) -> Option<(&str, Labels, i64)> {
    let (before, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, rest) = before.split_once('{').unwrap_or((before, "}"));
    let mut rest = rest.strip_suffix('}')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let mut labels = Vec::new();
    while let Some((label, behind)) = rest.split_once("=\"") {
        let (value, end) = quoted(behind)?;
        labels.push((label.to_owned(), value));
        rest = behind[end..].trim_start_matches(',');
    }
    Some((name, labels, value))
}

/// A text up to its closing quote, and where that has ended.
fn quoted(text: &str) -> Option<(String, usize)> {
    let (mut out, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            'n' if is_escaped => out.push('\n'),
            c if is_escaped => out.push(c),
            '"' => return Some((out, at + 1)),
            '\\' => {
                is_escaped = true;
                continue;
            }
            c => out.push(c),
        }
        is_escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_becomes_figures() {
        let said = "# HELP a First.\n# TYPE a gauge\na{x=\"1\",y=\"two \\\"words\\\"\\n\"} 3\na{x=\"2\"} 4\n\
                    # HELP b Second.\nb{} 2\nc 7\nno figure\nd NaN\n";
        let body = metrics(&Resource::named("orders"), said, 5).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let all = &body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(all.as_array().unwrap().len(), 3);
        assert_eq!(all[0]["description"], "First.");
        let points = &all[0]["gauge"]["dataPoints"];
        assert_eq!(points[0]["asInt"], "3");
        assert_eq!(points[0]["timeUnixNano"], "5000");
        assert_eq!(
            points[0]["attributes"][1]["value"]["stringValue"],
            "two \"words\"\n"
        );
        assert_eq!(points[1]["asInt"], "4");
        assert_eq!(all[2]["name"], "c");
        assert_eq!(metrics(&Resource::named("x"), "", 0), None);
    }
}
