package pgview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parleyhq/parley/pkg/view"
)

// What Parley's own functions in the database raise.
const (
	stateDropped  = "PV001"
	stateFenced   = "PV002"
	stateNoToken  = "PV003"
	stateDiverged = "PV004"
)

// classes are the errors that classify chooses from.
var classes = []error{
	view.ErrNotFound, view.ErrInvalid, view.ErrSchema, view.ErrNewerFormat, view.ErrInUse, view.ErrConflict, view.ErrDropped,
	view.ErrServer, view.ErrFenced, view.ErrFull, view.ErrUnavailable, view.ErrFailed, view.ErrCorrupt, view.ErrClosed, view.ErrInvalidCursor,
}

func isClass(err, class error) bool { return errors.Is(err, class) }

// classify says in view's words what went wrong. What is classified already,
// and the end of ctx, stay as they are.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	for _, class := range classes {
		if isClass(err, class) {
			return err
		}
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		advice, class := classOf(pg)
		return fmt.Errorf("%w%s: %w", class, advice, err)
	case ctx.Err() != nil:
		return err
	case errors.Is(err, errInterrupted), broken(err):
		return fmt.Errorf("%w: %w", view.ErrUnavailable, err)
	default:
		return err
	}
}

// broken says that the connection is, or that there was none.
func broken(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	var errno syscall.Errno
	return errors.As(err, &connect) || errors.As(err, &network) || errors.As(err, &errno) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, context.DeadlineExceeded)
}

// classOf classifies what the server says, and adds what to do.
func classOf(pg *pgconn.PgError) (advice string, class error) {
	switch pg.Code {
	case stateDropped, "42P01", "3F000": // undefined table, invalid schema name
		return "", view.ErrDropped
	case stateFenced:
		return "", view.ErrFenced
	case stateNoToken:
		return "", view.ErrInvalid
	case stateDiverged:
		return "", view.ErrUnavailable
	case "53100", "53200": // disk full, out of memory
		return "", view.ErrFull
	case "28000", "28P01":
		return " (the server refuses user or password: check the URL and pg_hba.conf)", view.ErrServer
	case "3D000":
		return " (create the database, with ENCODING 'UTF8', or let the URL name another)", view.ErrServer
	case "42501":
		return " (let the user own the database, or GRANT CREATE ON DATABASE to him, and let him own what Parley made before)", view.ErrServer
	case "42883", "42704": // undefined function, undefined object
		return " (something that Parley made was removed from the outside: drop its schema and start again, the views are computed anew)", view.ErrServer
	case "54000", "54001", "54011", "22021", "22P05", "22P02", "22003", "22008":
		// Limits of the server, and values that no column takes.
		return "", view.ErrInvalid
	case "XX001", "XX002":
		return "", view.ErrCorrupt
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "23", "21": // a constraint does not hold: somebody said something false of what is stored
		return "", view.ErrCorrupt
	default:
		// Connections, shutdowns, deadlocks, limits of resources, timeouts, a
		// primary that has become a standby: another try may do.
		return "", view.ErrUnavailable
	}
}

// state is the server's code for an error; empty where it is none of his.
func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// certain says that the server refused and rolled back. Where the connection
// broke, or the server ended it, a commit may have been made.
func certain(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return !strings.EqualFold(pg.SeverityUnlocalized, "FATAL") && !strings.EqualFold(pg.SeverityUnlocalized, "PANIC")
	}
	return pgconn.SafeToRetry(err)
}
