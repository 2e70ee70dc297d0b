//! The `headrace` program: arguments -> configuration -> control plane -> exit code.

fn main() -> std::process::ExitCode {
    headrace::cli::main()
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
