package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parleyhq/parley/pkg/credential"
)

// versionInfo is what this build is.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// versionOf is what the toolchain wrote into the binary.
func versionOf() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

func (a *App) versionCommand() *cobra.Command {
	output := outputTable
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show which build this is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionOf()
			switch output {
			case outputJSON:
				b, err := json.MarshalIndent(v, "", "  ")
				if err != nil {
					return fmt.Errorf("write the version: %w", err)
				}
				return write(a.Stdout, string(b)+"\n")
			case outputTable:
				commit := v.Commit
				if v.Modified {
					commit += " (modified)"
				}
				return write(a.Stdout, fmt.Sprintf("parley %s\ncommit %s\n%s %s\n", v.Version, or(commit), v.Go, v.Platform))
			default:
				return usagef("-o %s: there are table and json", output)
			}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "`form` of the output: table or json")
	return cmd
}

func (a *App) keyCommand() *cobra.Command {
	key := credential.Key{Tenant: "default", Scopes: []string{"record", "read"}}
	create := &cobra.Command{
		Use:   "new",
		Short: "Make an API key and what the configuration says of it",
		Long: `Makes an API key. The key itself goes to whoever calls, who sends it as
"authorization: Bearer <key>"; it is shown once and kept nowhere. The
configuration of the server gets its hash.`,
		Example: `  parley key new --name shop-backend --scope record --scope read
  parley key new --name console --tenant acme --scope read,ops`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			secret, hash, err := credential.Generate(a.Random)
			if err != nil {
				return err
			}
			key.Hash = hash
			if _, err := credential.NewKeys([]credential.Key{key}); err != nil {
				return &usageError{err}
			}
			source := key.Source
			if source == "" {
				source = key.Name
			}
			return write(a.Stdout, fmt.Sprintf(`%s

# The key above is not shown again. In the file that --config names:
api-keys:
  - name: %s
    hash: %s
    tenant: %s
    source: %s
    scopes: [%s]
`, secret, key.Name, hash, key.Tenant, source, strings.Join(key.Scopes, ", ")))
		},
	}
	f := create.Flags()
	f.StringVar(&key.Name, "name", "", "`name` of the key for people and logs (required)")
	f.StringVar(&key.Tenant, "tenant", key.Tenant, "`tenant` that calls with it belong to")
	f.StringVar(&key.Source, "source", "", "`source` that interactions recorded with it come from; the name unless given")
	f.StringSliceVar(&key.Scopes, "scope", key.Scopes, "what it allows: record, read, ops")
	return group("key", "API keys", create)
}
