// Command parley is Parley: all services in one binary, and the command line.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/parleyhq/parley/services/parley/internal/cli"
)

// memoryLimit is where the garbage collector begins to work harder: a replay
// makes much garbage beside a live heap that is a fraction of this. GOMEMLIMIT
// sets another one.
const memoryLimit = 800 << 20

// leastThreads run Go at a time, also on fewer processors. Two goroutines that
// compute, of a rebuild and of what the disk is arranged by, would else leave
// none on two processors to look for what has come in until the runtime takes one
// away from them, after 10 milliseconds; the kernel prefers the thread that was
// woken. GOMAXPROCS sets another number.
const leastThreads = 4

func main() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < leastThreads {
		runtime.GOMAXPROCS(leastThreads)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The first signal asks to stop; from then on a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	app := &cli.App{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
		Now: time.Now, Location: time.Local, Random: rand.Reader, Terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	return app.Run(ctx, os.Args[1:])
}
