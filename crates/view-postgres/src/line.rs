//! One connection to PostgreSQL, for threads that may block.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

/// A connection, and the thread-bound runtime that moves its bytes.
///
/// Nothing moves but while somebody waits in [`Line::wait`]. So a transaction needs no other
/// thread to be awake, and the runtime of the service needs no I/O of its own.
pub struct Line {
    client: Arc<Client>,
    /// What moves the bytes; `None` when the connection has ended.
    work: Option<Work>,
    /// Why it has ended.
    end: Option<String>,
    /// Taken only when the line is dropped.
    runtime: Option<Runtime>,
}

type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Line {
    /// Connects.
    pub fn open(config: &Config) -> Result<Self, Fault> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Fault::Lost(error.to_string()))?;
        match runtime.block_on(config.connect(NoTls)) {
            Ok((client, connection)) => Ok(Self {
                client: Arc::new(client),
                work: Some(Box::pin(connection)),
                end: None,
                runtime: Some(runtime),
            }),
            Err(error) => Err(Fault::of(&error, None)),
        }
    }

    /// Sends requests. What it gives waits in [`Line::wait`].
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Why the connection has ended, if it has.
    pub fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Blocks until `future` is ready, and moves bytes meanwhile.
    pub fn wait<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let (work, end) = (&mut self.work, &mut self.end);
        let turn = poll_fn(|cx| {
            // First, so that what it sends is taken along.
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if let Some(running) = work
                && let Poll::Ready(ended) = running.as_mut().poll(cx)
            {
                *work = None;
                *end = Some(match ended {
                    Ok(()) => "the connection was closed".to_owned(),
                    Err(error) => text(&error),
                });
                // Whoever waits for an answer learns now that there will be none.
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        match &self.runtime {
            Some(runtime) => runtime.block_on(turn),
            // It is there for as long as the line is.
            None => unreachable!("a line without its runtime"),
        }
    }
}

impl Drop for Line {
    /// A runtime may not be dropped where an async task runs, and a line may.
    fn drop(&mut self) {
        self.work = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why the database did not do what it was asked.
#[derive(Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection did not come about or was lost.
    Lost(String),
    /// The server cannot serve now, or not this user: whatever was asked. It may later.
    Server(String),
    /// The server refuses the statement itself.
    Statement {
        /// Why, and which.
        text: String,
        /// The server's code for it.
        code: String,
    },
}

impl Fault {
    /// What `error` means for the transaction that `sql` was part of.
    pub fn of(error: &Error, sql: Option<&str>) -> Self {
        let Some(refused) = error.as_db_error() else {
            return Self::Lost(text(error));
        };
        let mut said = text(error);
        if let Some(sql) = sql {
            said.push_str(&format!("; the statement was: {}", short(sql)));
        }
        let code = refused.code();
        if is_of_connection(code) || refused.severity() == "FATAL" {
            Self::Lost(said)
        } else if is_of_server(code) {
            Self::Server(said)
        } else {
            Self::Statement {
                text: said,
                code: code.code().to_owned(),
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(text) | Self::Server(text) | Self::Statement { text, .. }) = self;
        f.write_str(text)
    }
}

anabranch_model::debug_is_words!(Fault);

impl std::error::Error for Fault {}

/// Class 08, and a server that goes away.
fn is_of_connection(code: &SqlState) -> bool {
    let gone = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    code.code().starts_with("08") || gone.contains(code)
}

/// What says nothing about the statement: no event is to blame for it.
fn is_of_server(code: &SqlState) -> bool {
    // Rolled back for the sake of others; out of resources; object in use; operator; system;
    // internal.
    const CLASSES: [&str; 6] = ["40", "53", "55", "57", "58", "XX"];
    let named = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
    ];
    CLASSES.iter().any(|class| code.code().starts_with(class)) || named.contains(code)
}

/// All that an error has to say, in one line.
fn text(error: &Error) -> String {
    if let Some(refused) = error.as_db_error() {
        let mut text = format!("{} (SQLSTATE {})", refused.message(), refused.code().code());
        for more in [refused.detail(), refused.hint()].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(more);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The most of a statement that an error shows, in characters.
const SHOWN_MAX: usize = 200;

fn short(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_lacks_is_not_blamed_on_a_statement() {
        for code in [
            "53100", "40P01", "55P03", "57014", "25006", "42501", "XX000",
        ] {
            assert!(is_of_server(&SqlState::from_code(code)), "{code}");
        }
        for code in ["23505", "22P02", "42P01", "42601", "25P02", "P0001"] {
            assert!(!is_of_server(&SqlState::from_code(code)), "{code}");
            assert!(!is_of_connection(&SqlState::from_code(code)), "{code}");
        }
        for code in ["08006", "57P01", "57P03", "25P03"] {
            assert!(is_of_connection(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_as_such() {
        let mut config = Config::new();
        // A port that nothing may listen on.
        config.host("127.0.0.1").port(1).user("nobody");
        let fault = Line::open(&config).err().unwrap();
        assert!(matches!(fault, Fault::Lost(_)), "{fault:?}");
        assert!(fault.to_string().contains("refused"), "{fault}");
    }

    #[test]
    fn a_long_statement_is_shown_in_one_short_line() {
        assert_eq!(short("SELECT 1\n   FROM x"), "SELECT 1 FROM x");
        let long = short(&"ä ".repeat(1000));
        assert_eq!(long.chars().count(), SHOWN_MAX + 2);
    }
}
