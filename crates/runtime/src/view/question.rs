use std::collections::BTreeMap;

use anabranch_domain::Json;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// The fields of a query, as somebody outside sends them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// As JSON.
    Json(Json),
    /// As names and texts, such as an address has. A text becomes the type that the query's
    /// field has: `5` a number where one is wanted, and a text where that is.
    Fields(Vec<(String, String)>),
}

impl From<Json> for Question {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

impl Question {
    /// The query, or what is wrong.
    pub(super) fn parse<Q: DeserializeOwned>(&self) -> Result<Q, String> {
        match self {
            Self::Json(json) => {
                let query = json.parse().map_err(|error| error.to_string())?;
                // A field that does nothing is a mistake.
                let given: Result<BTreeMap<String, serde::de::IgnoredAny>, _> = json.parse();
                let given = given.unwrap_or_default();
                if let Some(known) = fields_of::<Q>() {
                    check_names(given.keys().map(String::as_str), known)?;
                }
                Ok(query)
            }
            Self::Fields(fields) => {
                Q::deserialize(Fields(fields)).map_err(|error| error.to_string())
            }
        }
    }
}

/// Refuses the first of these names that is no field.
fn check_names<'a>(names: impl IntoIterator<Item = &'a str>, known: &[&str]) -> Result<(), String> {
    match names.into_iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) if known.is_empty() => {
            Err(format!("unknown field `{name}`: the query has none"))
        }
        Some(name) => Err(format!(
            "unknown field `{name}`; the query has: {}",
            known.join(", ")
        )),
    }
}

/// The names of the fields that a query has, if its type says so: a struct does, one with
/// flattened fields does not.
pub(super) fn fields_of<Q: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut found = None;
    // It never gets a value; that it asks is enough.
    drop(Q::deserialize(Names(&mut found)));
    found
}

/// A type around another one is asked for as what it holds.
macro_rules! as_what_it_holds {
    () => {
        fn deserialize_newtype_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            visitor: V,
        ) -> Result<V::Value, Error> {
            visitor.visit_newtype_struct(self)
        }
    };
}

/// Takes note of the names that are asked for.
struct Names<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("there is no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(fields);
        self.deserialize_any(visitor)
    }

    as_what_it_holds!();

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option seq tuple tuple_struct map enum identifier ignored_any unit unit_struct
    }
}

type Error = serde::de::value::Error;

struct Fields<'a>(&'a [(String, String)]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let fields = self.0.iter().map(|(name, text)| (name.clone(), Text(text)));
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.check(&[])?;
        visitor.visit_unit()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check(fields)?;
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    as_what_it_holds!();

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl Fields<'_> {
    /// Refuses a field that the query does not have: it would do nothing.
    fn check(&self, known: &[&str]) -> Result<(), Error> {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        check_names(names, known).map_err(Error::custom)
    }
}

/// One field's text, which becomes what is asked of it.
struct Text<'a>(&'a str);

impl<'de> IntoDeserializer<'de> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(Error::custom(format!(concat!("{:?} is not ", $what), self.0))),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool "true or false";
        deserialize_i8 visit_i8 "a whole number from -128 to 127";
        deserialize_i16 visit_i16 "a whole number from -32768 to 32767";
        deserialize_i32 visit_i32 "a whole number of 32 bits";
        deserialize_i64 visit_i64 "a whole number of 64 bits";
        deserialize_i128 visit_i128 "a whole number of 128 bits";
        deserialize_u8 visit_u8 "a whole number from 0 to 255";
        deserialize_u16 visit_u16 "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 "a whole number from 0 on, of 32 bits";
        deserialize_u64 visit_u64 "a whole number from 0 on, of 64 bits";
        deserialize_u128 visit_u128 "a whole number from 0 on, of 128 bits";
        deserialize_f32 visit_f32 "a number";
        deserialize_f64 visit_f64 "a number";
        deserialize_char visit_char "one character";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    as_what_it_holds!();

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: serde::de::value::StrDeserializer<'_, Error> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Sort {
        ByName,
        ByTotal,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Customers {
        country: String,
        least: u64,
        sort: Option<Sort>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct All;

    fn fields(fields: &[(&str, &str)]) -> Question {
        let owned = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        Question::Fields(fields.iter().map(owned).collect())
    }

    #[test]
    fn a_text_becomes_what_the_field_is() {
        let asked = fields(&[("country", "17"), ("least", "17"), ("sort", "by-total")]);
        let customers: Customers = asked.parse().unwrap();
        assert_eq!(
            customers,
            Customers {
                country: "17".to_owned(),
                least: 17,
                sort: Some(Sort::ByTotal)
            }
        );
        let without: Customers = fields(&[("country", "a"), ("least", "0")]).parse().unwrap();
        assert_eq!(without.sort, None);
        assert_ne!(Sort::ByName, Sort::ByTotal);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |asked: Question| asked.parse::<Customers>().unwrap_err();
        assert_eq!(error(fields(&[("country", "a")])), "missing field `least`");
        assert_eq!(
            error(fields(&[("country", "a"), ("least", "many")])),
            "\"many\" is not a whole number from 0 on, of 64 bits"
        );
        let none = fields(&[("x", "1")]).parse::<All>().unwrap_err();
        assert_eq!(none, "unknown field `x`: the query has none");
    }

    #[test]
    fn a_field_that_the_query_does_not_have_is_refused_with_those_that_it_has() {
        let said = "unknown field `lest`; the query has: country, least, sort";
        let asked = fields(&[("country", "a"), ("least", "0"), ("lest", "5")]);
        assert_eq!(asked.parse::<Customers>().unwrap_err(), said);
        let json = Json::new(r#"{"country":"a","least":0,"lest":5}"#).unwrap();
        let asked = Question::from(json);
        assert_eq!(asked.parse::<Customers>().unwrap_err(), said);
        assert_eq!(fields_of::<All>(), None);
        assert_eq!(fields_of::<u64>(), None);
    }

    #[test]
    fn a_query_without_fields_needs_none() {
        assert_eq!(fields(&[]).parse(), Ok(All));
        assert_eq!(Question::from(Json::null()).parse(), Ok(All));
    }
}
