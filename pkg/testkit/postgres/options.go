package postgres

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// DatabaseOption changes how a database is created.
type DatabaseOption func(*databaseOptions)

type databaseOptions struct{ icuLocale string }

// ICULocale lets texts sort as people do, "en-US" or "de", where the database
// otherwise sorts by bytes: as on many a production server, so that a test
// shows what relies on an order. The server must be PostgreSQL 15 or newer and
// built with ICU, which packages are; else the test fails.
func ICULocale(locale string) DatabaseOption {
	return func(o *databaseOptions) { o.icuLocale = locale }
}

// Option changes the settings of a cluster. Of two for the same setting the
// later one counts.
type Option func(*options)

type options struct{ settings []setting }

type setting struct{ name, value string }

// Durable makes commits survive a power cut, as PostgreSQL does by itself:
// fsync is on.
func Durable() Option { return Setting("fsync", "on") }

// MaxConnections sets how many connections the server takes at once, of which
// it keeps three for superusers. PostgreSQL's own default is 100.
func MaxConnections(n int) Option { return Setting("max_connections", strconv.Itoa(n)) }

// SharedBuffers sets the memory in which the server keeps pages, with a unit:
// "512MB". PostgreSQL's own default is 128MB.
func SharedBuffers(size string) Option { return Setting("shared_buffers", size) }

// Setting sets any parameter of postgresql.conf by its name. Starting fails
// where PostgreSQL does not know it or refuses the value.
func Setting(name, value string) Option {
	return func(o *options) { o.settings = append(o.settings, setting{name, value}) }
}

// check finds what is wrong before anything is made.
func (o options) check() error {
	for _, s := range o.settings {
		if !settingName.MatchString(s.name) {
			return fmt.Errorf("%q is no name of a setting of PostgreSQL", s.name)
		}
	}
	return nil
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

var settingValue = strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`)

// config is the end of the postgresql.conf of a cluster on a port: the last
// line for a setting counts.
func (o options) config(port int) string {
	all := []setting{
		{"listen_addresses", "127.0.0.1"},
		{"unix_socket_directories", ""},
		{"fsync", "off"},
	}
	all = append(all, o.settings...)
	all = append(all, setting{"port", strconv.Itoa(port)})
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s = '%s'\n", s.name, settingValue.Replace(s.value))
	}
	return b.String()
}
