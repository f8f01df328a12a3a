package pgview

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/view"
)

// minServer is the oldest version of Postgres, as it numbers itself.
const minServer = 130000

// poolConfig is the configuration of the pool, and of the listening connection.
func poolConfig(cfg Config) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(cfg.URL.Reveal())
	if err != nil {
		// What pgx says of it may show parts of a password that the URL
		// does not mark as one.
		return nil, fmt.Errorf("the URL cannot be read, want postgres://user:password@host:5432/database?sslmode=…, "+
			"with characters other than letters and digits in user and password written as %%40 and the like: %w", view.ErrInvalid)
	}
	c.MaxConns = int32(cfg.MaxConns)
	params := c.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "parley"
	}
	// What texts of times are read back by.
	params["timezone"], params["datestyle"] = "UTC", "ISO, MDY"
	switch cfg.QueryMode {
	case Exec:
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	case SimpleProtocol:
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	default:
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
		// Compiling takes longer than any query here. PgBouncer, which these
		// modes are not for, would refuse the parameter.
		params["jit"] = "off"
	}
	return c, nil
}

// checkServer fails with view.ErrServer where the server cannot be used.
func (s *Store) checkServer(ctx context.Context, h hooks) error {
	var version int
	var text, encoding, compression string
	var readOnly bool
	err := s.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'),
		coalesce((SELECT array_to_string(enumvals, ',') FROM pg_settings WHERE name = 'default_toast_compression'), ''),
		current_setting('transaction_read_only')::bool`).Scan(&version, &text, &encoding, &compression, &readOnly)
	if err != nil {
		return classify(ctx, err)
	}
	if h.version != 0 {
		version, text = h.version, fmt.Sprintf("%d.%d", h.version/10000, h.version%10000)
	}
	switch {
	case version < minServer:
		return fmt.Errorf("%w: Postgres %s, at least %d is needed: upgrade the server", view.ErrServer, text, minServer/10000)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the database's encoding is %s: use one made with ENCODING 'UTF8'", view.ErrServer, encoding)
	case readOnly:
		return fmt.Errorf("%w: it is read-only: let the URL name the primary, or add target_session_attrs=read-write", view.ErrServer)
	}
	s.lz4 = strings.Contains(compression, "lz4")
	return nil
}

// scrub takes the URL's password out of an error's text, should any library
// ever put it there.
func scrub(err error, url config.Secret) error {
	c, parseErr := pgx.ParseConfig(url.Reveal())
	if parseErr != nil || c.Password == "" || !strings.Contains(err.Error(), c.Password) {
		return err
	}
	return &scrubbedError{err: err, text: strings.ReplaceAll(err.Error(), c.Password, "***")}
}

type scrubbedError struct {
	err  error
	text string
}

func (e *scrubbedError) Error() string { return e.text }

// Is looks for the few errors of view only: the others are the ones with the secret.
func (e *scrubbedError) Is(target error) bool {
	for _, class := range classes {
		if target == class && isClass(e.err, class) {
			return true
		}
	}
	return false
}
