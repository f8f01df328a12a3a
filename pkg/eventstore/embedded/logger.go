package embedded

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLogger takes what Pebble says. Its everyday news are for debugging.
// What it calls fatal must not end the process from within a library: the
// store fails instead, and whoever runs it decides.
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

var _ pebble.Logger = pebbleLogger{}

// Infof drops the news: each would be formatted for nobody.
func (pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	fatal := &fatalError{text: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			fatal.cause = err
		}
	}
	l.fail(fatal)
}

// fatalError is what Pebble calls fatal, and the error that it says so of.
type fatalError struct {
	text  string
	cause error
}

func (e *fatalError) Error() string { return e.text }

func (e *fatalError) Unwrap() error { return e.cause }
