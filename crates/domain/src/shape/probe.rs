//! Finds the shape of a type that serde can read, without a value of it.
//!
//! The type is asked to read made-up data, and what it asks for is written down. It is asked
//! again and again: with another text where it refuses one, and without each of its fields,
//! to see which of them it misses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::{Field, Shape};

/// The shape of what the variant `name` of `T` holds.
pub fn shape_of_variant<T: DeserializeOwned>(name: &str) -> Shape {
    shape_of(&|plan| run::<T>(name, plan))
}

/// A run of one type with a plan. Behind a pointer, as all that need not know the type: what is
/// generic here is compiled again for each type of each service.
type Run<'a> = &'a dyn Fn(&Plan) -> (Record, Result<(), Trouble>);

fn shape_of(run: Run<'_>) -> Shape {
    let mut plan = Plan::default();
    let mut all = Record::default();
    for _ in 0..RUNS_MAX {
        let (seen, ended) = run(&plan);
        all.asked.extend(seen.asked);
        match ended {
            // What is missed here is in the way only of what stands behind it.
            Ok(()) | Err(Trouble::Missing(_)) => break,
            Err(Trouble::Twice(field)) => {
                let Some(given) = seen.last_field else { break };
                if given.ends_with(&format!(".{field}")) {
                    plan.first.insert(given);
                } else {
                    plan.aliases.insert(given);
                }
            }
            Err(Trouble::Other) => {
                let Some(refused) = seen.last_value else {
                    break;
                };
                let next = plan.attempts.entry(refused.clone()).or_default();
                *next += 1;
                if *next >= ATTEMPTS_MAX && !plan.give_up(&refused) {
                    break;
                }
            }
        }
    }
    let required = all.fields().map(|path| {
        let without = Plan {
            omit: Some(path.clone()),
            ..plan.clone()
        };
        let is_required = match run(&without).1 {
            Ok(()) => Some(false),
            Err(Trouble::Missing(missing)) if path.ends_with(&format!(".{missing}")) => Some(true),
            Err(_) => None,
        };
        (path, is_required)
    });
    let required: BTreeMap<String, Option<bool>> = required.collect();
    all.assemble("", &plan, &required)
}

const RUNS_MAX: usize = 400;
/// How deep lists, maps, options and fields are followed: types may hold themselves.
const DEPTH_MAX: usize = 8;
/// How deep enums are followed.
const ENUMS_MAX: usize = 2;

/// What a type that wants a certain text may want.
const TEXTS: [&str; 14] = [
    "",
    "a",
    "0",
    "1",
    "a/b",
    "0:0",
    "0.5",
    "00000000-0000-7000-8000-000000000000",
    "2011-01-01",
    "2011-01-01T00:00:00Z",
    "00:00:00",
    "127.0.0.1",
    "http://a/",
    "GBP",
];
const ATTEMPTS_MAX: usize = TEXTS.len();

/// What is given to the type in one run.
#[derive(Debug, Clone, Default)]
struct Plan {
    /// Which of the things it may want is given, by path.
    attempts: BTreeMap<String, usize>,
    /// Fields that are not given because nobody can make up their value.
    left_out: BTreeSet<String>,
    /// Other names of fields.
    aliases: BTreeSet<String>,
    /// Fields that are given before their aliases are.
    first: BTreeSet<String>,
    /// Lists and maps that are given empty, and options that are given as none.
    empty: BTreeSet<String>,
    /// The field that is left out to see whether it is missed.
    omit: Option<String>,
}

impl Plan {
    /// Goes around a value that nobody can make up; false if there is no way around it.
    fn give_up(&mut self, path: &str) -> bool {
        if let Some((choice, _)) = path.rsplit_once('|') {
            // It is inside a variant: another variant may hold less.
            let choice = choice.to_owned();
            let next = self.attempts.entry(choice.clone()).or_default();
            *next += 1;
            return *next < ATTEMPTS_MAX || self.give_up(&choice);
        }
        match path.char_indices().rfind(|(_, c)| ".[{?".contains(*c)) {
            Some((_, '.')) => self.left_out.insert(path.to_owned()),
            Some((at, _)) => self.empty.insert(path[..at].to_owned()),
            None => false,
        }
    }
}

/// What the type has asked for, by path: `.field`, `[]`, `{}`, `?`, `.0`.
#[derive(Debug, Default)]
struct Record {
    asked: BTreeMap<String, Asked>,
    last_field: Option<String>,
    last_value: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Plain(Shape),
    Optional,
    List,
    Map,
    Tuple(usize),
    Fields(Vec<String>),
}

impl Record {
    /// The paths of all fields.
    fn fields(&self) -> impl Iterator<Item = String> {
        // What is inside a variant of an enum is not part of the shape.
        let outside = self.asked.iter().filter(|(path, _)| !path.contains('|'));
        outside.flat_map(|(path, asked)| {
            let names = match asked {
                Asked::Fields(names) => names.as_slice(),
                _ => &[],
            };
            names.iter().map(move |name| format!("{path}.{name}"))
        })
    }

    fn assemble(
        &self,
        path: &str,
        plan: &Plan,
        required: &BTreeMap<String, Option<bool>>,
    ) -> Shape {
        let below = |rest: &str| Box::new(self.assemble(&format!("{path}{rest}"), plan, required));
        match self.asked.get(path) {
            None => Shape::Unknown,
            Some(Asked::Plain(shape)) => shape.clone(),
            Some(Asked::Optional) => Shape::Optional(below("?")),
            Some(Asked::List) => Shape::List(below("[]")),
            Some(Asked::Map) => Shape::Map(below("{}")),
            Some(Asked::Tuple(count)) => {
                Shape::Tuple((0..*count).map(|i| *below(&format!(".{i}"))).collect())
            }
            Some(Asked::Fields(names)) => {
                let field = |name: &String| {
                    let inner = format!("{path}.{name}");
                    let field = Field {
                        shape: *below(&format!(".{name}")),
                        required: required.get(&inner).copied().flatten(),
                    };
                    (!plan.aliases.contains(&inner)).then(|| (name.clone(), field))
                };
                Shape::Fields(names.iter().filter_map(field).collect())
            }
        }
    }
}

/// How a run ended.
#[derive(Debug)]
enum Trouble {
    /// A field was missed.
    Missing(&'static str),
    /// This field was given twice, once under another name.
    Twice(&'static str),
    /// The last value was refused, or something was asked for that this cannot give.
    Other,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("made-up data was refused")
    }
}

impl std::error::Error for Trouble {}

impl serde::de::Error for Trouble {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Twice(field)
    }
}

fn run<T: DeserializeOwned>(variant: &str, plan: &Plan) -> (Record, Result<(), Trouble>) {
    let record = RefCell::new(Record::default());
    let value = Value {
        plan,
        record: &record,
        path: String::new(),
    };
    let ended = T::deserialize(Root(variant, value)).map(|_| ());
    (record.into_inner(), ended)
}

/// The enum itself, of which one variant is read.
struct Root<'a>(&'a str, Value<'a>);

impl<'de> Deserializer<'de> for Root<'_> {
    type Error = Trouble;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Trouble> {
        Err(Trouble::Other)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        visitor.visit_enum(Chosen(self.0, self.1))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// One variant, by its name.
struct Chosen<'a>(&'a str, Value<'a>);

impl<'de, 'a> EnumAccess<'de> for Chosen<'a> {
    type Error = Trouble;
    type Variant = Value<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Value<'a>), Trouble> {
        let name = StrDeserializer::<Trouble>::new(self.0);
        Ok((seed.deserialize(name)?, self.1))
    }
}

impl<'de> VariantAccess<'de> for Value<'_> {
    type Error = Trouble;

    fn unit_variant(self) -> Result<(), Trouble> {
        self.note(Asked::Plain(Shape::Nothing));
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Trouble> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Trouble> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        self.deserialize_struct("", fields, visitor)
    }
}

/// A made-up value at a path.
struct Value<'a> {
    plan: &'a Plan,
    record: &'a RefCell<Record>,
    path: String,
}

impl<'a> Value<'a> {
    fn note(&self, asked: Asked) {
        let mut record = self.record.borrow_mut();
        record.asked.insert(self.path.clone(), asked);
        record.last_value = Some(self.path.clone());
    }

    /// Which of the things that it may want is given.
    fn attempt(&self) -> usize {
        self.plan.attempts.get(&self.path).copied().unwrap_or(0)
    }

    fn below(&self, rest: &str) -> Value<'a> {
        Value {
            plan: self.plan,
            record: self.record,
            path: format!("{}{rest}", self.path),
        }
    }

    fn is_empty(&self) -> bool {
        let depth = self.path.matches(['.', '[', '{', '?']).count();
        depth >= DEPTH_MAX || self.plan.empty.contains(&self.path)
    }

    /// A number is asked for; the one that is given.
    fn number(&self, shape: Shape) -> u8 {
        self.note(Asked::Plain(shape));
        self.attempt().min(100) as u8
    }

    /// What is given for a list.
    fn list(&self) -> Parts<'a> {
        self.note(Asked::List);
        let parts = if self.is_empty() {
            Vec::new()
        } else {
            vec![self.below("[]")]
        };
        Parts(parts.into_iter())
    }

    /// What is given for a tuple of so many parts.
    fn tuple(&self, len: usize) -> Parts<'a> {
        self.note(Asked::Tuple(len));
        let parts: Vec<_> = (0..len).map(|i| self.below(&format!(".{i}"))).collect();
        Parts(parts.into_iter())
    }

    /// What is given for a map.
    fn map(&self) -> Entry<'a> {
        self.note(Asked::Map);
        let entry = (!self.is_empty()).then(|| (self.below("{key}"), self.below("{}")));
        Entry(entry, None)
    }

    /// What is given for a struct of these fields.
    fn named(self, fields: &'static [&'static str]) -> Named<'a> {
        let mut names: Vec<String> = fields.iter().map(|&name| name.to_owned()).collect();
        names.dedup();
        self.note(Asked::Fields(names));
        let is_given = |field: &&&'static str| {
            let path = format!("{}.{field}", self.path);
            self.plan.omit.as_ref() != Some(&path)
                && !self.plan.left_out.contains(&path)
                && !self.plan.aliases.contains(&path)
        };
        let mut given: Vec<_> = fields.iter().filter(is_given).copied().collect();
        given.sort_by_key(|field| !self.plan.first.contains(&format!("{}.{field}", self.path)));
        Named {
            value: self,
            names: given.into_iter(),
            present: None,
        }
    }

    /// The variant that is given.
    fn choice(&self, variants: &'static [&'static str]) -> Result<Chosen<'a>, Trouble> {
        let names = variants.iter().map(|&name| name.to_owned()).collect();
        self.note(Asked::Plain(Shape::OneOf(names)));
        if self.path.matches('|').count() >= ENUMS_MAX {
            return Err(Trouble::Other);
        }
        match variants.get(self.attempt()) {
            // What a variant holds is read, and not written down: another one may hold more.
            Some(name) => Ok(Chosen(name, self.below("|"))),
            None => Err(Trouble::Other),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty = $shape:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
            visitor.$visit(self.number($shape) as $type)
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Trouble;

    numbers! {
        deserialize_i8 visit_i8 i8 = Shape::Signed(8);
        deserialize_i16 visit_i16 i16 = Shape::Signed(16);
        deserialize_i32 visit_i32 i32 = Shape::Signed(32);
        deserialize_i64 visit_i64 i64 = Shape::Signed(64);
        deserialize_i128 visit_i128 i128 = Shape::Signed(128);
        deserialize_u8 visit_u8 u8 = Shape::Unsigned(8);
        deserialize_u16 visit_u16 u16 = Shape::Unsigned(16);
        deserialize_u32 visit_u32 u32 = Shape::Unsigned(32);
        deserialize_u64 visit_u64 u64 = Shape::Unsigned(64);
        deserialize_u128 visit_u128 u128 = Shape::Unsigned(128);
        deserialize_f32 visit_f32 f32 = Shape::Float(32);
        deserialize_f64 visit_f64 f64 = Shape::Float(64);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Any));
        match self.attempt() {
            0 => visitor.visit_unit(),
            1 => visitor.visit_str("a"),
            2 => visitor.visit_u64(0),
            3 => visitor.visit_bool(false),
            _ => Err(Trouble::Other),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Bool));
        visitor.visit_bool(self.attempt() % 2 == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Text));
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Text));
        visitor.visit_str(TEXTS[self.attempt() % TEXTS.len()])
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Bytes));
        visitor.visit_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Optional);
        if self.is_empty() {
            return visitor.visit_none();
        }
        visitor.visit_some(self.below("?"))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.note(Asked::Plain(Shape::Nothing));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        // JSON that is kept as text asks for itself by a name of its own.
        if name.starts_with("$serde_json::private") {
            self.note(Asked::Plain(Shape::Any));
            let text = std::iter::once((name, "null"));
            return visitor.visit_map(MapDeserializer::new(text));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_seq(self.list())
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        visitor.visit_seq(self.tuple(len))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        visitor.visit_map(self.map())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        if name.starts_with("$serde_json::private") {
            return self.deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_map(self.named(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        visitor.visit_enum(self.choice(variants)?)
    }
}

struct Parts<'a>(std::vec::IntoIter<Value<'a>>);

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Trouble;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Trouble> {
        self.0.next().map(|part| seed.deserialize(part)).transpose()
    }
}

struct Entry<'a>(Option<(Value<'a>, Value<'a>)>, Option<Value<'a>>);

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Trouble> {
        let Some((key, value)) = self.0.take() else {
            return Ok(None);
        };
        self.1 = Some(value);
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Trouble> {
        let value = self.1.take().ok_or(Trouble::Other)?;
        seed.deserialize(value)
    }
}

struct Named<'a> {
    value: Value<'a>,
    names: std::vec::IntoIter<&'static str>,
    present: Option<&'static str>,
}

impl<'a> Named<'a> {
    fn next(&mut self) -> Option<&'static str> {
        let name = self.names.next()?;
        self.present = Some(name);
        let path = format!("{}.{name}", self.value.path);
        self.value.record.borrow_mut().last_field = Some(path);
        Some(name)
    }

    fn of_present(&mut self) -> Result<Value<'a>, Trouble> {
        let name = self.present.take().ok_or(Trouble::Other)?;
        Ok(self.value.below(&format!(".{name}")))
    }
}

impl<'de> MapAccess<'de> for Named<'_> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Trouble> {
        let Some(name) = self.next() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Trouble> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Trouble> {
        seed.deserialize(self.of_present()?)
    }
}
