package serve

import (
	"io"
	"log/slog"
)

// NewLogger makes the process' logger: short lines for people on a terminal,
// JSON for machines elsewhere, unless the settings say which.
func (p Process) NewLogger(w io.Writer, terminal bool) (*slog.Logger, error) {
	level, err := p.level()
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	text := p.LogFormat == "text" || p.LogFormat == "auto" && terminal
	if !text {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String(slog.TimeKey, a.Value.Time().Format("15:04:05.000"))
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
