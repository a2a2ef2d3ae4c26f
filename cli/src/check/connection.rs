//! Connects as libpq would.

use super::pass_file::{self, Account};
use super::tls;
use crate::error::{Error, Result};
use clap::Args;
use postgres::config::{ChannelBinding, Host};
use postgres::{Client, Config, NoTls};
use std::error::Error as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Where a server's socket is: as Debian builds libpq, and as PostgreSQL does.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Variables of libpq that name a server, or demand something of it, and have no counterpart here.
const NOT_KNOWN: [&str; 7] = [
    "PGSERVICE",
    "PGHOSTADDR",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGTARGETSESSIONATTRS",
];

/// Which server, as whom.
#[derive(Args)]
pub struct ConnectionArgs {
    /// Server's name, or the directory of its socket
    #[arg(short = 'h', long, help_heading = "Connection")]
    host: Option<String>,
    /// Server's port
    #[arg(short, long, help_heading = "Connection")]
    port: Option<u16>,
    /// Role to connect as
    #[arg(short = 'U', long, value_name = "ROLE", help_heading = "Connection")]
    username: Option<String>,
    /// Database, or a connection string or URI (without a password, which others could see)
    #[arg(short, long, value_name = "DATABASE", help_heading = "Connection")]
    dbname: Option<String>,
}

impl ConnectionArgs {
    /// Connects. At a terminal it asks for a password that is needed and not known.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Usage`].
    pub fn connect(&self) -> Result<Client> {
        let mut config = self.config()?;
        let mode = tls::Mode::choose(config.get_ssl_mode())?;
        config.ssl_mode(mode.wire_mode());
        let connect = |config: &Config| match mode {
            tls::Mode::Disable => config.connect(NoTls).map_err(refused),
            _ => config.connect(tls::connector(mode)?).map_err(refused),
        };
        match connect(&config) {
            Err(Error::PasswordNeeded) if io::stdin().is_terminal() => {
                let password = rpassword::prompt_password("Password: ").map(Zeroizing::new);
                config.password(password.map_err(Error::Input)?.as_bytes());
                connect(&config)
            }
            result => result,
        }
    }

    fn config(&self) -> Result<Config> {
        // Rather than connect in another way than was meant.
        if let Some(name) = NOT_KNOWN.into_iter().find(|name| variable(name).is_some()) {
            return Err(Error::Usage(format!("{name} is not known here")));
        }
        if variable("PGGSSENCMODE").as_deref() == Some("require") {
            return Err(Error::Usage("encryption by GSSAPI is not known here".to_owned()));
        }
        let mut config = Config::new();
        let named = self.dbname.as_deref().filter(|name| name.contains('=') || name.contains("://"));
        if let Some(named) = named {
            config = named.parse().map_err(|_| {
                // The words of the parser may repeat a part of it.
                Error::Usage("-d is no connection string that is known here; other values of sslmode than disable, prefer and require go into PGSSLMODE".to_owned())
            })?;
            if config.get_password().is_some() {
                return Err(Error::Usage(
                    "a password in an argument can be seen by others: use PGPASSWORD or a password file"
                        .to_owned(),
                ));
            }
        }
        let port = match (self.port, config.get_ports(), variable("PGPORT")) {
            (Some(port), ..) => port,
            (None, [port, ..], _) => *port,
            (None, [], Some(port)) => {
                port.parse().map_err(|_| Error::Usage("PGPORT is no number of a port".to_owned()))?
            }
            (None, [], None) => 5432,
        };
        if config.get_ports().is_empty() {
            config.port(port);
        }
        if config.get_hosts().is_empty() {
            let host = self.host.clone().or_else(|| variable("PGHOST"));
            for one in host.unwrap_or_else(|| socket_directory(port)).split(',') {
                config.host(one);
            }
        }
        let user = self.username.clone().or_else(|| config.get_user().map(str::to_owned));
        let user = match user.or_else(|| variable("PGUSER")) {
            Some(user) => user,
            None => whoami::username()
                .map_err(|_| Error::Usage("-U is needed: this user has no name here".to_owned()))?,
        };
        let database = self.dbname.clone().filter(|_| named.is_none());
        let database = database.or_else(|| config.get_dbname().map(str::to_owned));
        let database = database.or_else(|| variable("PGDATABASE")).unwrap_or_else(|| user.clone());
        config.user(&user).dbname(&database).application_name("prism-crypt");
        if let Some(options) = variable("PGOPTIONS").filter(|_| config.get_options().is_none()) {
            config.options(&options);
        }
        match variable("PGCHANNELBINDING").as_deref() {
            None | Some("prefer") => {}
            Some("require") => {
                config.channel_binding(ChannelBinding::Require);
            }
            Some("disable") => {
                config.channel_binding(ChannelBinding::Disable);
            }
            Some(other) => return Err(Error::Usage(format!("PGCHANNELBINDING {other:?} is not known"))),
        }
        if let Some(seconds) = variable("PGCONNECT_TIMEOUT").and_then(|text| text.parse().ok()) {
            config.connect_timeout(Duration::from_secs(seconds));
        }
        let password = variable("PGPASSWORD").map(Zeroizing::new).or_else(|| {
            let host = match config.get_hosts().first() {
                Some(Host::Tcp(name)) => name.clone(),
                // Those of other directories are known by them.
                Some(Host::Unix(path)) if !is_default(path) => path.display().to_string(),
                _ => "localhost".to_owned(),
            };
            let account = Account { host: &host, port: &port.to_string(), database: &database, user: &user };
            pass_file::password(&account)
        });
        if let Some(password) = password {
            config.password(password.as_bytes());
        }
        Ok(config)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn socket_directory(port: u16) -> String {
    let has_socket = |directory: &&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    let found = SOCKET_DIRECTORIES.into_iter().find(has_socket);
    found.unwrap_or(SOCKET_DIRECTORIES[0]).to_owned()
}

fn is_default(path: &Path) -> bool {
    SOCKET_DIRECTORIES.iter().any(|directory| Path::new(directory) == path)
}

fn refused(error: postgres::Error) -> Error {
    if error.source().is_some_and(|source| source.to_string() == "password missing") {
        return Error::PasswordNeeded;
    }
    Error::Connection { detail: words_of(&error) }
}

/// The server's message, or else what there is.
pub fn words_of(error: &postgres::Error) -> String {
    let words = match (error.as_db_error(), error.source()) {
        (Some(error), _) => error.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    };
    format!("{}.", words.trim_end_matches('.'))
}
