//! The keys of whoever signs tokens, as their file says they are now.

use std::sync::Arc;
use std::time::Duration;

use anabranch_jwt::Issuer;
use anabranch_runtime::Time;
use tokio::sync::watch;

use crate::entrance::Says;
use crate::until::until_stopped;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at the file again and again until the server stops, and says what people should know of it.
pub async fn follow_issuer(
    issuer: Arc<Issuer>,
    time: Time,
    says: Says,
    stopping: watch::Receiver<bool>,
) {
    let looking = async {
        let mut failed = None;
        loop {
            match issuer.look() {
                Ok(false) => failed = None,
                Ok(true) => {
                    says("tokens are believed by the keys that the file of keys holds now");
                    failed = None;
                }
                Err(error) => {
                    let why = error.to_string();
                    if failed.as_ref() != Some(&why) {
                        says(&format!("{why}; the keys from before stay"));
                    }
                    failed = Some(why);
                }
            }
            time.sleep(LOOK_EVERY).await;
        }
    };
    until_stopped(stopping, looking).await;
}
