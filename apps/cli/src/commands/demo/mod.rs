//! `anabranch demo`: the whole shop in one program, one of its services, or each in a process of its
//! own.

mod args;
mod ending;
mod one;
mod place;
mod provider;
mod service;
mod split;
mod split_floor;
mod split_keys;

pub use args::DemoArgs;

use crate::context::Context;
use crate::failure::Outcome;

/// Runs the command.
pub async fn run(args: DemoArgs, context: Context) -> Outcome {
    args.doors.check(&args.listen, &context).await?;
    if args.service.is_some() {
        return service::run(args, context).await;
    }
    if args.split {
        return split::run(args, context).await;
    }
    one::run(args, context).await
}
