//! The command `anabranch bench log`, until it is part of the command line.

#[path = "../../../apps/cli/src/bench.rs"]
mod bench;

use clap::Parser;

#[derive(Parser)]
enum Cli {
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(clap::Subcommand)]
enum BenchCommand {
    Log {
        #[command(flatten)]
        args: Box<bench::BenchLog>,
        #[arg(long)]
        output: Option<String>,
    },
}

fn main() {
    let Cli::Bench(BenchCommand::Log { args, output }) = Cli::parse();
    let form = match output.as_deref() {
        Some("json") => bench::ResultForm::Json,
        _ => bench::ResultForm::Text,
    };
    let beside = ".anabranch/bench".into();
    match bench::run(&args, beside, form, &|what| eprintln!("{what}")) {
        Ok(text) => print!("{text}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
