//! The table of settings: each with its name, its meaning, how it is read and shown.

use std::time::Duration;

use anabranch::Address;
use anabranch::segment::{Durability, WriteMethod};

use super::units::{duration_text, parse_duration, parse_size, size_text};
use super::value::Settings;
use crate::log_lines::LogForm;
use crate::output::Form;

/// One setting.
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it means, on one line.
    pub help: &'static str,
    /// Takes a value, or says why it cannot.
    pub apply: fn(&mut Settings, &str) -> Result<(), String>,
    /// The value it has.
    pub show: fn(&Settings) -> String,
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// How long acknowledged events may wait for the disk with `interval` alone.
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

macro_rules! size {
    ($name:literal, $($field:ident).+, $help:literal) => {
        Key {
            name: $name,
            help: $help,
            apply: |s, text| {
                s.$($field).+ = parse_size(text)?
                    .try_into()
                    .map_err(|_| format!("{text:?} is larger than this machine can hold"))?;
                Ok(())
            },
            show: |s| size_text(s.$($field).+ as u64),
        }
    };
}

macro_rules! count {
    ($name:literal, $($field:ident).+, $help:literal) => {
        Key {
            name: $name,
            help: $help,
            apply: |s, text| {
                s.$($field).+ = text
                    .parse()
                    .map_err(|_| format!("{text:?} is not a whole number"))?;
                Ok(())
            },
            show: |s| s.$($field).+.to_string(),
        }
    };
}

macro_rules! file {
    ($name:literal, $field:ident, $help:literal) => {
        Key {
            name: $name,
            help: $help,
            apply: |s, text| {
                s.$field = Some(text.into()).filter(|_| !text.is_empty());
                Ok(())
            },
            show: |s| {
                let file = s.$field.as_ref();
                file.map_or_else(String::new, |file| file.display().to_string())
            },
        }
    };
}

/// Every setting there is.
pub const KEYS: &[Key] = &[
    Key {
        name: "log",
        help: "where the log is: ./dir, or memory: for one that ends with the command",
        apply: |s, text| {
            s.log = text.parse::<Address>().map_err(|error| error.to_string())?;
            Ok(())
        },
        show: |s| s.log.to_string(),
    },
    Key {
        name: "server",
        help: "where the program is that runs the services, for example http://127.0.0.1:4077; empty: it is found by the log",
        apply: |s, text| {
            s.server = Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        },
        show: |s| s.server.clone().unwrap_or_default(),
    },
    file!(
        "tls_ca",
        tls_ca,
        "file of the CA by which servers have to be certified; empty: whom this machine believes"
    ),
    file!(
        "tls_cert",
        tls_cert,
        "file of the certificate that a server here shows; empty: nothing is encrypted"
    ),
    file!(
        "tls_key",
        tls_key,
        "file of the private key of that certificate"
    ),
    Key {
        name: "output",
        help: "form of what is printed: text, json or jsonl",
        apply: |s, text| {
            s.form = Form::parse(text)?;
            Ok(())
        },
        show: |s| s.form.name().to_owned(),
    },
    Key {
        name: "otlp",
        help: "collector of OpenTelemetry to which spans and figures are sent, for example http://127.0.0.1:4318; empty: nowhere",
        apply: |s, text| {
            s.otlp = Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        },
        show: |s| s.otlp.clone().unwrap_or_default(),
    },
    Key {
        name: "logs",
        help: "form of what programs say on the standard error: text, or json (one object on each line)",
        apply: |s, text| {
            s.logs = LogForm::parse(text)?;
            Ok(())
        },
        show: |s| s.logs.name().to_owned(),
    },
    Key {
        name: "durability",
        help: "when an append is acknowledged: sync, or interval:100ms (a power cut may lose as much)",
        apply: |s, text| {
            s.options.durability = parse_durability(text)?;
            Ok(())
        },
        show: |s| match s.options.durability {
            Durability::Sync => "sync".to_owned(),
            Durability::Interval(every) => format!("interval:{}", duration_text(every)),
        },
    },
    Key {
        name: "engine.write_method",
        help: "auto (measured when the log is opened), buffered or direct",
        apply: |s, text| {
            s.options.write_method = match text {
                "auto" => WriteMethod::Auto,
                "buffered" => WriteMethod::Buffered,
                "direct" => WriteMethod::Direct,
                _ => return Err(format!("{text:?} is not auto, buffered or direct")),
            };
            Ok(())
        },
        show: |s| {
            let name = match s.options.write_method {
                WriteMethod::Auto => "auto",
                WriteMethod::Buffered => "buffered",
                WriteMethod::Direct => "direct",
            };
            name.to_owned()
        },
    },
    size!(
        "engine.segment_bytes",
        options.segment_bytes,
        "size of a new segment file"
    ),
    count!(
        "engine.spare_segments",
        options.spare_segments,
        "segments written ahead, so that a roll does not wait"
    ),
    size!(
        "engine.index_memory",
        options.index_memory,
        "memory that the indexes may take"
    ),
    size!(
        "engine.queue_bytes_max",
        options.queue_bytes_max,
        "appends that may wait for the disk before callers wait"
    ),
    Key {
        name: "engine.append_timeout",
        help: "how long an append may wait for the disk before its outcome is unknown",
        apply: |s, text| {
            s.options.append_timeout = parse_duration(text)?;
            Ok(())
        },
        show: |s| duration_text(s.options.append_timeout),
    },
    size!(
        "engine.reserve_bytes",
        options.reserve_bytes,
        "free space kept for what the engine itself must write"
    ),
    size!(
        "limits.data_bytes_max",
        options.limits.data_bytes_max,
        "largest data of one event"
    ),
    size!(
        "limits.headers_bytes_max",
        options.limits.headers_bytes_max,
        "largest sum of headers, tags and ids of one event"
    ),
    size!(
        "limits.batch_bytes_max",
        options.limits.batch_bytes_max,
        "largest atomic batch, in bytes"
    ),
    count!(
        "limits.batch_events_max",
        options.limits.batch_events_max,
        "most events of one atomic batch"
    ),
    count!(
        "limits.tags_max",
        options.limits.tags_max,
        "most tags of one event"
    ),
];

fn parse_durability(text: &str) -> Result<Durability, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("sync", "") => Ok(Durability::Sync),
        ("interval", "") => Ok(Durability::Interval(INTERVAL_DEFAULT)),
        ("interval", every) => match parse_duration(every)? {
            Duration::ZERO => Err("an interval of nothing is sync; write that".to_owned()),
            every => Ok(Durability::Interval(every)),
        },
        _ => Err(format!(
            "{text:?} is not sync, interval or interval:DURATION"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_reads_back_as_itself() {
        for key in KEYS {
            let mut settings = Settings::default();
            let value = (key.show)(&settings);
            (key.apply)(&mut settings, &value).unwrap();
            assert_eq!((key.show)(&settings), value, "{}", key.name);
        }
    }

    #[test]
    fn durability_is_sync_or_an_interval() {
        assert_eq!(parse_durability("sync"), Ok(Durability::Sync));
        let ms = |n| Ok(Durability::Interval(Duration::from_millis(n)));
        assert_eq!(parse_durability("interval"), ms(100));
        assert_eq!(parse_durability("interval:5ms"), ms(5));
        for bad in ["", "async", "sync:5ms", "interval:0ms", "interval:x"] {
            assert!(parse_durability(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
