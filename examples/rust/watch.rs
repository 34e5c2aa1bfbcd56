//! Checks two flags a thousand times a second and says when an answer changes.
//!
//! The store is the one in `$FLAGS_STORE`, or the host's own.

use std::thread::sleep;
use std::time::Duration;

use libflags::{Client, Context};

fn main() -> Result<(), libflags::Error> {
    let client = Client::open(None)?;
    let context = Context::new("user-1").with("country", "DE");
    let mut seen = String::new();
    for checks in 1_u64.. {
        let checkout = client.bool("new-checkout", &context, false);
        let greeting = client.string("greeting", &context, "?");
        let answers = format!("new-checkout={checkout} greeting={greeting}");
        if answers != seen {
            println!("{answers}");
            seen = answers;
        }
        if checks % 100 == 0 {
            println!("checks {checks}");
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
