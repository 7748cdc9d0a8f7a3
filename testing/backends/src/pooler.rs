use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Account, Outcome, find, told};

/// So often it is looked whether it listens, every ten milliseconds.
const TRIES: u32 = 1_000;

/// Starts a pgbouncer that lends connections of `server` for one transaction each, in the
/// directory `dir`, which is made; its address.
pub fn start(dir: &Path, server: &str, port: u16) -> Outcome<String> {
    let program = find("pgbouncer", &[]).ok_or(
        "pgbouncer was not found; install it (Debian: apt-get install pgbouncer)".to_owned(),
    )?;
    let parts = || {
        let (_, rest) = server.split_once("://")?;
        let (user, place) = rest.split_once('@')?;
        let (user, password) = user.split_once(':')?;
        let (place, database) = place.split_once('/')?;
        let (host, port) = place.split_once(':')?;
        Some((user, password, host, port, database))
    };
    let (user, password, host, server_port, database) =
        parts().ok_or("the server's address is not understood".to_owned())?;
    let account = Account::for_server()?;
    let made = std::fs::DirBuilder::new().mode(0o700).create(dir);
    told(made, dir)?;
    account.give(dir)?;
    let shown = dir.display();
    let settings = format!(
        "[databases]\n{database} = host={host} port={server_port}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         pool_mode = transaction\ndefault_pool_size = 5\nauth_type = scram-sha-256\n\
         auth_file = {shown}/users\nlogfile = {shown}/log\npidfile = {shown}/pid\n"
    );
    for (name, text) in [
        ("settings", settings),
        ("users", format!("\"{user}\" \"{password}\"\n")),
    ] {
        let file = dir.join(name);
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&file);
        let written =
            opened.and_then(|mut open| std::io::Write::write_all(&mut open, text.as_bytes()));
        told(written, &file)?;
        account.give_file(&file)?;
    }
    let mut command = Command::new(program);
    command.arg("-d").arg(dir.join("settings")).current_dir(dir);
    account.set(&mut command);
    command.stdin(Stdio::null());
    // It keeps what it is given: its output would hold up whoever reads ours.
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let said = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("pgbouncer failed ({status}): {}", said().trim())),
        Err(error) => return Err(format!("pgbouncer: {error}")),
    }
    // It says that it has begun before it listens.
    for _ in 0..TRIES {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(format!(
                "postgres://{user}:{password}@127.0.0.1:{port}/{database}"
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("pgbouncer does not listen: {}", said().trim()))
}

/// Stops the one of this directory, if there is one.
pub fn stop(dir: &Path) -> Outcome {
    let Ok(text) = std::fs::read_to_string(dir.join("pid")) else {
        return Ok(());
    };
    let mut kill = Command::new("kill");
    kill.args(["-TERM", text.trim()]).stderr(Stdio::null());
    // One that has ended by itself is no mistake.
    let ended = kill.status().map_err(|error| format!("kill: {error}"));
    ended.map(drop)
}
