//! `GET /asyncapi.json`: the events that can be followed here, as AsyncAPI 3 describes them: a channel
//! for each category that a service here writes, and a message for each type of event in it.

use anabranch_domain::types::{KindTypes, ServiceTypes, Shape};
use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, reply};
use crate::policy::{Needs, Routes};
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default().get("/asyncapi.json", Needs::Known, describe)
}

async fn describe(State(shared): State<Shared>) -> Answer {
    let services = shared.fleet.services();
    let types = services.iter().map(|service| service.types());
    let (protocol, host) = shared.url.split_once("://").unwrap_or_default();
    reply(&document(protocol, host, types))
}

fn document<'a>(
    protocol: &str,
    host: &str,
    services: impl Iterator<Item = &'a ServiceTypes>,
) -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for service in services {
        // What a service keeps to itself is nothing for others to build on.
        let offered = service.entities.iter();
        for entity in offered.filter(|of| !service.keeps(&of.category)) {
            let category = &entity.category;
            let mut of_channel = Map::new();
            for kind in &entity.events.kinds {
                let name = format!("{category}.{}.{}", kind.name, kind.version);
                messages.insert(plain(&name), message(category, kind));
                let there = format!("#/components/messages/{}", plain(&name));
                of_channel.insert(plain(&kind.name), json!({"$ref": there}));
            }
            of_channel.insert(plain(PLATFORM), json!({"$ref": PLATFORM_THERE}));
            let channel = json!({
                "address": format!("/events?category={}", anabranch_model::uri_part(category)),
                "title": category,
                "description": format!("Events of service {}", service.service),
                "messages": of_channel,
            });
            channels.insert(plain(category), channel);
            let channel = format!("#/channels/{}", plain(category));
            let operation = json!({
                "action": "send",
                "channel": {"$ref": channel},
                "summary": "Follow them by server-sent events; each event's id is the place behind it",
            });
            operations.insert(format!("follow.{}", plain(category)), operation);
        }
    }
    messages.insert(plain(PLATFORM), of_platform());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Anabranch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events that services here write, and that anybody may follow.",
        },
        "defaultContentType": anabranch_wire::CLOUD_EVENT,
        "servers": {"here": {"host": host, "protocol": protocol}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

/// Under which name stands what the platform itself notes in the streams of a category, and where.
const PLATFORM: &str = "$platform";
const PLATFORM_THERE: &str = "#/components/messages/_platform";

/// What the platform notes, such as that a command was answered: nothing for others to build on.
fn of_platform() -> Value {
    let payload = json!({
        "type": "object",
        "required": ["specversion", "id", "type", "source", "subject"],
        "properties": {"specversion": {"const": "1.0"}, "type": {"type": "string", "pattern": "^\\$"}},
    });
    json!({
        "name": PLATFORM,
        "title": "What the platform notes",
        "contentType": anabranch_wire::CLOUD_EVENT,
        "payload": payload,
    })
}

/// A name as the document's keys may be.
fn plain(name: &str) -> String {
    let stays = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars()
        .map(|c| if stays(c) { c } else { '_' })
        .collect()
}

/// One type of event: a CloudEvent, whose data looks so.
fn message(category: &str, kind: &KindTypes) -> Value {
    let text = || json!({"type": "string"});
    let mut properties = json!({
        "specversion": {"const": "1.0"},
        "id": text(),
        "type": {"const": kind.name},
        "source": text(),
        "subject": {"type": "string", "description": format!("The stream, {category}/key")},
        "time": {"type": "string", "format": "date-time"},
        "sequence": {"type": "string", "description": "The event's number in its stream, from 0"},
        "position": {"type": "string", "description": "Where it stands in the log"},
        "datacontenttype": {"const": "application/json"},
        "data": data(&kind.shape),
    });
    if kind.version != 1 {
        properties["dataschema"] = text();
    }
    json!({
        "name": kind.name,
        "title": kind.name,
        "contentType": anabranch_wire::CLOUD_EVENT,
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "type", "source", "subject"],
            "properties": properties,
        },
    })
}

/// What the data of an event looks like. One without fields is stored as `{}`, so that it may grow some.
fn data(shape: &Shape) -> Value {
    match shape {
        Shape::Nothing => json!({"type": ["object", "null"]}),
        shape => schema(shape),
    }
}

/// What data of this shape looks like, as JSON Schema.
fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Unknown | Shape::Any => json!({}),
        Shape::Nothing => json!({"type": "null"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Unsigned(_) => json!({"type": "integer", "minimum": 0}),
        Shape::Signed(_) => json!({"type": "integer"}),
        Shape::Float(_) => json!({"type": "number"}),
        Shape::Text => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "array", "items": {"type": "integer"}}),
        Shape::Optional(some) => json!({"anyOf": [schema(some), {"type": "null"}]}),
        Shape::List(of) => json!({"type": "array", "items": schema(of)}),
        Shape::Map(of) => json!({"type": "object", "additionalProperties": schema(of)}),
        Shape::Tuple(all) => {
            let (items, count): (Vec<_>, _) = (all.iter().map(schema).collect(), all.len());
            json!({"type": "array", "items": items, "minItems": count, "maxItems": count})
        }
        // A name alone, or the one name of an object, whose value nobody can tell.
        Shape::OneOf(names) => {
            let named = names.iter().map(|name| (name.clone(), json!({})));
            let named: Map<_, _> = named.collect();
            let one = json!({
                "type": "object",
                "properties": named,
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            });
            json!({"anyOf": [{"enum": names}, one]})
        }
        Shape::Fields(fields) => {
            let properties = fields
                .iter()
                .map(|(name, field)| (name.clone(), schema(&field.shape)));
            let properties: Map<_, _> = properties.collect();
            let required = fields
                .iter()
                .filter(|(_, field)| field.required == Some(true));
            let required: Vec<_> = required.map(|(name, _)| name).collect();
            json!({"type": "object", "properties": properties, "required": required})
        }
    }
}

#[cfg(test)]
mod tests {
    use anabranch_domain::types::{CategoryTypes, EventTypes};

    use super::*;

    #[test]
    fn what_a_service_keeps_to_itself_is_not_offered() {
        let of = |category: &str| CategoryTypes {
            category: category.to_owned(),
            events: EventTypes::default(),
        };
        let service = ServiceTypes {
            entities: vec![of("price"), of("price-list")],
            private: ["price".to_owned()].into(),
            ..ServiceTypes::default()
        };
        let document = document("http", "here", [&service].into_iter());
        let channels: Vec<_> = document["channels"].as_object().unwrap().keys().collect();
        assert_eq!(channels, ["price-list"]);
        assert!(document["operations"]["follow.price"].is_null());
    }

    #[test]
    fn a_shape_is_the_schema_of_what_serde_writes() {
        let one_of = Shape::OneOf(vec!["Cash".to_owned(), "Card".to_owned()]);
        let schema = schema(&Shape::Optional(Box::new(Shape::List(Box::new(one_of)))));
        let one = &schema["anyOf"][0]["items"]["anyOf"];
        assert_eq!(one[0], json!({"enum": ["Cash", "Card"]}));
        assert_eq!(one[1]["properties"], json!({"Cash": {}, "Card": {}}));
        assert_eq!(schema["anyOf"][1], json!({"type": "null"}));
    }

    #[test]
    fn an_event_without_fields_is_an_object_that_may_grow_some() {
        assert_eq!(data(&Shape::Nothing)["type"], json!(["object", "null"]));
        assert_eq!(data(&Shape::Text), json!({"type": "string"}));
    }

    #[test]
    fn what_the_platform_notes_is_described_where_it_is_referred_to() {
        assert_eq!(
            PLATFORM_THERE,
            format!("#/components/messages/{}", plain(PLATFORM))
        );
        let type_of = &of_platform()["payload"]["properties"]["type"];
        assert_eq!(type_of["pattern"], "^\\$");
    }

    #[test]
    fn names_are_keys_that_the_document_may_have() {
        assert_eq!(plain("order.Placed.1"), "order.Placed.1");
        assert_eq!(plain("größe/x y"), "gr__e_x_y");
    }
}
