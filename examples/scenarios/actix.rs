//! An actix-web server whose handlers block: a `current_thread` runtime of its own for each worker, and
//! each request polled inside the task of its connection. Built with `--cfg actix`, and actix-web among
//! the dependencies.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, rt::System, web};

use crate::blocking::{block_on_cpu, block_on_sleep};
use crate::catalog::Context;
use crate::causes::{CPU, Jitter, SLEEP};
use crate::runtimes::on_a_thread;
use crate::truth::{self, Timed};

/// Serves on loopback, and asks for what blocks from threads of its own.
pub fn serve(context: &Context) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let workers = context.workers;
    on_a_thread("actix", move || {
        let app = || {
            App::new()
                .route("/cpu/{ns}", web::get().to(compute))
                .route("/sleep/{ns}", web::get().to(sleep))
        };
        let server = HttpServer::new(app).workers(workers).disable_signals();
        System::new().block_on(server.listen(listener)?.run())
    })?;
    for number in 0..context.options.tasks {
        let context = context.clone();
        on_a_thread("client", move || {
            let mut jitter = Jitter::new(number);
            let path = ["cpu", "sleep"][number % 2];
            while Instant::now() < context.deadline {
                std::thread::sleep(jitter.gap(&context));
                ask(address, path, jitter.block(&context))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn ask(address: SocketAddr, path: &str, time: Duration) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    let ns = time.as_nanos();
    write!(
        server,
        "GET /{path}/{ns} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(io::Error::other(answer)),
    }
}

async fn compute(time: web::Path<u64>) -> String {
    let time = Duration::from_nanos(time.into_inner());
    Timed::new(async { truth::blocking(CPU, || block_on_cpu(time)) }).await;
    String::new()
}

async fn sleep(time: web::Path<u64>) -> String {
    let time = Duration::from_nanos(time.into_inner());
    Timed::new(async { truth::blocking(SLEEP, || block_on_sleep(time)) }).await;
    String::new()
}
