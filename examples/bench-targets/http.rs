//! A hello server and its clients on one runtime, over loopback.

use std::io;
use std::net::Ipv4Addr;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::COUNTER;
use crate::http_client::Connection;

/// Starts the server and its clients; they run until the counter says stop.
pub fn start(workers: usize, clients: usize) -> io::Result<Runtime> {
    let runtime = crate::runtime(workers)?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    let app = Router::new().route("/hello", get(async || "hello\n"));
    runtime.spawn(async { axum::serve(listener, app).await });
    for _ in 0..clients {
        runtime.spawn(async move {
            // At the end the server may be gone before its clients.
            if let Err(error) = ask(port).await
                && COUNTER.add(0)
            {
                eprintln!("bench-targets: {error}");
                std::process::exit(1);
            }
        });
    }
    Ok(runtime)
}

async fn ask(port: u16) -> io::Result<()> {
    let mut connection = Connection::open(port).await?;
    while COUNTER.add(1) {
        match connection.request("GET", "/hello", "").await? {
            200 => {}
            status => return Err(io::Error::other(format!("status {status}"))),
        }
    }
    Ok(())
}
