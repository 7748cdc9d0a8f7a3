//! A server of a test's own, at the other end of a real connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// The server's end.
pub struct Server(TcpStream);

impl Server {
    /// Sends this to the client.
    pub async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

/// A client's connection and the server's end of it.
pub async fn pair() -> (TcpStream, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), Server(server.unwrap().0))
}

/// Lets `future` run as far as it comes with what has arrived, and checks that it then
/// still waits.
pub async fn pending<F: Future>(mut future: Pin<&mut F>) {
    for _ in 0..200 {
        let waits = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "it did not wait");
        tokio::task::yield_now().await;
    }
}
