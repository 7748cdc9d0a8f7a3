//! The payment provider as a program of its own, for `anabranch demo --provider http://…`.

use std::process::ExitCode;

use anabranch::env::Env;
use anabranch::runtime::Time;
use anabranch_shop::provider::{self, Mood};

const USAGE: &str = "\
Usage: payment-provider HOW ADDRESS

Takes payments and gives them back, by HTTP, until it is stopped.

  HOW      reliable, flaky, or down-for=30s
  ADDRESS  where, for example 127.0.0.1:4090
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mood, address] = arguments.as_slice() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let mood: Mood = match mood.parse() {
        Ok(mood) => mood,
        Err(error) => {
            eprint!("payment-provider: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let listener = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("payment-provider: cannot listen on {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("payment-provider: anabranch demo --provider http://{address}");
    match provider::serve(listener, mood, Time::of(&Env::os())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("payment-provider: {error}");
            ExitCode::FAILURE
        }
    }
}
