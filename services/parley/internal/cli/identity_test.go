package cli_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/parleyhq/parley/pkg/rpcerr"
	customerv1 "github.com/parleyhq/parley/proto/gen/parley/customer/v1"
	errorv1 "github.com/parleyhq/parley/proto/gen/parley/error/v1"
	"github.com/parleyhq/parley/services/parley/internal/cli"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	addr := household().serve(t)
	utf8 := append(slices.Clone(addr), "LANG=de_AT.UTF-8")
	for name, tc := range map[string]struct {
		env  []string
		args []string
	}{
		"explain":         {utf8, []string{"ada@example.com"}},
		"explain_80":      {append(slices.Clone(utf8), "COLUMNS=80"), []string{"--id", id("ada")}},
		"explain_40":      {append(slices.Clone(utf8), "COLUMNS=1"), []string{"user-id:u-1001"}},
		"explain_ascii":   {append(slices.Clone(utf8), "LC_ALL=C"), []string{"user_id:u-1001"}},
		"explain_few":     {utf8, []string{"ada@example.com", "--limit", "2"}},
		"explain_hub":     {utf8, []string{id("elif")}},
		"explain_chain":   {append(slices.Clone(utf8), "COLUMNS=100"), []string{"handle:whatsapp:436601", "--limit", "5"}},
		"explain_json":    {utf8, []string{"ada@example.com", "-o", "json"}},
		"customer_claims": {utf8, nil},
	} {
		args := append([]string{"customer", "explain"}, tc.args...)
		if tc.args == nil {
			args = []string{"customer", "get", "--email", "ada@example.com"}
		}
		r := runWith(t, "", tc.env, args...)
		require.Equal(t, cli.ExitDone, r.code, "%s: %s", name, r.stderr)
		require.Empty(t, r.stderr, name)
		golden(t, name, r.stdout)
	}
	byID := runWith(t, "", utf8, "customer", "get", "--id", id("ada"))
	byMail := runWith(t, "", utf8, "customer", "get", "--email", "ada@example.com")
	require.Equal(t, byMail.stdout, byID.stdout, "claims are told either way")

	several := runWith(t, "", utf8, "customer", "explain", "anonymous_id:b-family", "-o", "json")
	require.Equal(t, cli.ExitDone, several.code, several.stderr)
	require.Contains(t, several.stderr, "2 customers have the anonymous id b-family")
	require.True(t, json.Valid([]byte(several.stdout)), "what is told beside it stays out of the output")
}

// TestExplainDrawsEveryProfileOnce whatever the links are.
func TestExplainDrawsEveryProfileOnce(t *testing.T) {
	t.Parallel()
	p := household()
	addr := append(p.serve(t), "LC_CTYPE=C.UTF-8", "LANG=C")
	for name, links := range map[string][]*customerv1.ExplainedLink{
		"none":     nil,
		"circle":   {link("n0", "n1", 0), link("n1", "n2", 0), link("n2", "n0", 0)},
		"itself":   {link("n1", "n1", 0)},
		"unknown":  {link("n0", "elsewhere", 0), link("nowhere", "elsewhere", 0)},
		"doubled":  {link("n0", "n1", 0), link("n1", "n0", 1)},
		"backward": {link("n28", "n29", 0), link("n29", "n27", 0), link("n27", "n0", 0)},
	} {
		g := &customerv1.ExplainIdentityResponse{CustomerId: id("n0"), Links: links}
		for i := range 30 {
			g.Profiles = append(g.Profiles, profile(fmt.Sprintf("n%d", i), "anonymous_id", fmt.Sprintf("value-%d-", i), weak))
		}
		g.Profiles = append(g.Profiles, g.GetProfiles()[3])
		p.mu.Lock()
		p.graphs[id("grace")] = g
		p.mu.Unlock()
		r := runWith(t, "", addr, "customer", "explain", id("grace"), "--limit", "0")
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		tree, _, _ := strings.Cut(r.stdout, "Links not in force")
		for i := range 30 {
			require.Equal(t, 1, strings.Count(tree, fmt.Sprintf("value-%d-", i)), "%s: %d\n%s", name, i, tree)
		}
		require.NotContains(t, r.stdout, " more; -o json has all", name)
		require.Contains(t, r.stdout, "├── ", "LC_CTYPE counts before LANG")
	}
}

// asking runs a command on a terminal where somebody types an answer.
func asking(t *testing.T, environ []string, answer string, args ...string) result {
	t.Helper()
	var stdout, stderr syncBuffer
	app := &cli.App{
		Stdin: strings.NewReader(answer), Stdout: &stdout, Stderr: &stderr, Environ: environ,
		Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	return result{code: app.Run(ctx, args), stdout: stdout.String(), stderr: stderr.String()}
}

func TestMergeAndSplit(t *testing.T) {
	t.Parallel()
	merge := []string{"customer", "merge", "ada@example.com", "user_id:u-1011", "--reason", "  Same person  "}
	undo := []string{"customer", "split", "ada@example.com", "--undo", eventID(202), "--reason", "Two sisters"}
	profiles := []string{"customer", "split", id("laptop"), "--profiles", "email:ada@example.com," + id("adaphone")[:8] + "," + id("laptop"), "--reason", "Two sisters"}
	for name, args := range map[string][]string{"merge": merge, "split_undo": undo, "split_profiles": profiles} {
		p := household()
		addr := p.serve(t)
		decisions := func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.merges) + len(p.splits)
		}
		for _, answer := range []string{"", "\n", "n\n", "maybe\n", strings.Repeat("y", 1000)} {
			r := asking(t, addr, answer, args...)
			require.Equal(t, cli.ExitFailed, r.code, name)
			require.Contains(t, r.stderr, "Nothing was changed.")
			require.Empty(t, r.stdout)
			require.Zero(t, decisions(), "%s: %q is no yes", name, answer)
		}
		r := asking(t, addr, "Yes\nrest", args...)
		require.Equal(t, cli.ExitDone, r.code, r.stderr)
		require.Equal(t, 1, decisions())
		require.Equal(t, 1, strings.Count(r.stderr, "[y/N]"), "asks once")
		golden(t, name+"_asked", r.stderr)
		golden(t, name, r.stdout)

		quiet := runWith(t, "", addr, append(slices.Clone(args), "--yes")...)
		require.Equal(t, cli.ExitDone, quiet.code, quiet.stderr)
		require.Equal(t, r.stdout, quiet.stdout)
		require.Empty(t, quiet.stderr, "--yes neither asks nor shows")

		raw := runWith(t, "", addr, append(slices.Clone(args), "-y", "-o", "json")...)
		require.Equal(t, cli.ExitDone, raw.code, raw.stderr)
		require.Contains(t, raw.stdout, `"eventId": "`+newEvent+`"`)

		p.mu.Lock()
		for _, m := range p.merges {
			require.Equal(t, "Same person", m.GetReason())
			require.Equal(t, []string{id("laptop"), id("elif")}, []string{m.GetCustomerId(), m.GetOtherCustomerId()})
			require.Len(t, m.GetRequestId(), 36)
		}
		for _, s := range p.splits {
			require.Equal(t, "Two sisters", s.GetReason())
			require.Equal(t, id("laptop"), s.GetCustomerId())
			require.NotEqual(t, s.GetUndoMergeEventId() == "", len(s.GetProfileIds()) == 0)
			if s.GetUndoMergeEventId() == "" {
				require.Equal(t, []string{id("adamail"), id("adaphone"), id("laptop")}, s.GetProfileIds())
			}
			require.Len(t, s.GetRequestId(), 36)
		}
		p.mu.Unlock()
	}
}

// TestUndoCommandsReachTheSameServer: they can be pasted as they are.
func TestUndoCommandsReachTheSameServer(t *testing.T) {
	t.Parallel()
	addr := household().serve(t)
	_, host, _ := strings.Cut(addr[0], "=")
	args := []string{"customer", "merge", id("laptop"), id("elif"), "--reason", "r", "--yes"}
	byFlag := runWith(t, "", nil, append(slices.Clone(args), "--addr", host)...)
	require.Equal(t, cli.ExitDone, byFlag.code, byFlag.stderr)
	require.Contains(t, byFlag.stdout, `--reason "why it was wrong" --addr=`+host+"\n")
	byEnv := runWith(t, "", addr, args...)
	require.NotContains(t, byEnv.stdout, "--addr")
	r := runWith(t, "", nil, "customer", "explain", id("laptop"), "--addr", host)
	require.Contains(t, r.stdout, "--addr="+host)
}

// TestSentAgain leaves to the server what may be done already.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	const request = "1f0c2f0e-6f0a-4b8e-9a55-0d6a3f6f1c11"
	for _, args := range [][]string{
		{"customer", "merge", id("laptop"), id("ada"), "--request-id", request},
		{"customer", "split", id("laptop"), "--profiles", id("grace"), "--request-id", request},
		{"customer", "split", id("laptop"), "--undo", newEvent},
	} {
		r := runWith(t, "", addr, append(args, "--yes", "--reason", "r")...)
		require.Equal(t, cli.ExitDone, r.code, "%v: %s", args, r.stderr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Equal(t, request, p.merges[0].GetRequestId())
	require.Equal(t, request, p.splits[0].GetRequestId())
	require.Equal(t, []string{id("grace")}, p.splits[0].GetProfileIds())
	require.Equal(t, newEvent, p.splits[1].GetUndoMergeEventId())
}

func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	p := household()
	addr := p.serve(t)
	in, typing, err := os.Pipe()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr syncBuffer
	app := &cli.App{
		Stdin: struct{ *os.File }{in}, Stdout: &syncBuffer{}, Stderr: &stderr, Environ: addr,
		Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	code := make(chan int, 1)
	go func() { code <- app.Run(ctx, []string{"customer", "merge", id("laptop"), id("elif"), "--reason", "r"}) }()
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "[y/N]") }, deadline, time.Millisecond)
	cancel()
	require.Equal(t, cli.ExitFailed, <-code)
	require.Contains(t, stderr.String(), "Nothing was changed.")
	require.NoError(t, typing.Close()) // lets the reader go
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.merges)
}

func TestIdentityRefusals(t *testing.T) {
	t.Parallel()
	refused := func(code codes.Code, reason errorv1.Reason) error {
		return rpcerr.New(code, reason, "The server says so.")
	}
	merge := []string{"customer", "merge", id("laptop"), id("elif")}
	split := []string{"customer", "split", id("laptop"), "--profiles", id("ada")}
	for name, tc := range map[string]struct {
		args   []string
		refuse error
		want   []string
	}{
		"same":        {merge, refused(codes.FailedPrecondition, errorv1.Reason_REASON_SAME_CUSTOMER), []string{"The server says so. (SAME_CUSTOMER)", "nothing to merge"}},
		"large":       {merge, refused(codes.FailedPrecondition, errorv1.Reason_REASON_CUSTOMER_TOO_LARGE), []string{"parley identity block"}},
		"profile":     {split, refused(codes.FailedPrecondition, errorv1.Reason_REASON_NOT_A_PROFILE_OF_CUSTOMER), []string{"which profiles he has now"}},
		"nothing":     {split, refused(codes.FailedPrecondition, errorv1.Reason_REASON_NOTHING_TO_SPLIT), []string{"some must stay"}},
		"lost":        {merge, refused(codes.Unavailable, errorv1.Reason_REASON_BACKEND_UNAVAILABLE), []string{"is not known", "--request-id "}},
		"lost split":  {split, refused(codes.DeadlineExceeded, errorv1.Reason_REASON_UNSPECIFIED), []string{"--timeout", "is not known", "--request-id "}},
		"not allowed": {merge, refused(codes.PermissionDenied, errorv1.Reason_REASON_NOT_ALLOWED), []string{"NOT_ALLOWED"}},
		"themselves":  {[]string{"customer", "merge", id("laptop"), id("ada")}, nil, []string{"both are customer " + id("laptop") + " already"}},
		"nobody":      {[]string{"customer", "merge", id("laptop"), "nobody@example.com"}, nil, []string{"nobody has the email nobody@example.com"}},
		"several": {[]string{"customer", "merge", id("laptop"), "anonymous_id:b-family"}, nil, []string{
			"2 customers have the anonymous id b-family", id("elif") + "  Elif Demir", "Noor·[31m Haddad",
		}},
		"several split":  {[]string{"customer", "split", "--anonymous-id", "b-family", "--undo", newEvent}, nil, []string{"2 customers have"}},
		"no profile":     {[]string{"customer", "split", id("laptop"), "--profiles", "email:grace@example.com"}, nil, []string{"has no profile email:grace@example.com"}},
		"too short":      {[]string{"customer", "split", id("laptop"), "--profiles", "ada"}, nil, []string{"has no profile ada;"}},
		"ambiguous":      {[]string{"customer", "split", id("grace"), "--profiles", "graceful"}, nil, []string{"graceful is the beginning of 2 profiles"}},
		"everything":     {[]string{"customer", "split", id("noor"), "--profiles", all(wide())}, nil, []string{"of the 200 profiles", "200 would leave: there is nothing to split"}},
		"explain nobody": {[]string{"customer", "explain", "x"}, nil, []string{"CUSTOMER_NOT_FOUND"}},
	} {
		p := household()
		p.refuse = tc.refuse
		args := tc.args
		if args[1] != "explain" {
			args = append(slices.Clone(args), "--reason", "r", "--yes")
		}
		r := runWith(t, "", p.serve(t), args...)
		require.Equal(t, cli.ExitFailed, r.code, "%s: %s", name, r.stderr)
		for _, want := range tc.want {
			require.Contains(t, r.stderr, want, name)
		}
		require.NotContains(t, r.stderr, "\x1b", name)
		require.Empty(t, r.stdout, name)
		if tc.refuse == nil {
			p.mu.Lock()
			require.Empty(t, p.merges, name)
			require.Empty(t, p.splits, name)
			p.mu.Unlock()
		}
	}
	unread := asking(t, household().serve(t), "y\n", "customer", "split", id("laptop"), "--undo", newEvent, "--reason", "r")
	require.Equal(t, cli.ExitFailed, unread.code)
	require.Contains(t, unread.stderr, "no merge of customer "+id("laptop"))
}

func all(g *customerv1.ExplainIdentityResponse) string {
	var ids []string
	for _, p := range g.GetProfiles() {
		ids = append(ids, p.GetProfileId())
	}
	return strings.Join(ids, ",")
}

func TestIdentityUsage(t *testing.T) {
	t.Parallel()
	merge := []string{"customer", "merge", "a", "b", "--reason", "r"}
	split := []string{"customer", "split", "a", "--reason", "r", "--yes"}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{merge, "--yes does it without asking"},
		{[]string{"customer", "merge", "a", "--reason", "r"}, "name two customers"},
		{[]string{"customer", "merge", "a", " ", "--reason", "r"}, "name a customer"},
		{[]string{"customer", "merge", "a", "b", "--yes"}, "--reason: say why"},
		{[]string{"customer", "merge", "a", "b", "--yes", "--reason", " "}, "--reason: say why"},
		{[]string{"customer", "merge", "a", "b", "--yes", "--reason", strings.Repeat("ü", 513)}, "513 characters, the most are 512"},
		{append(slices.Clone(merge), "--request-id", "again"), "--request-id again: want a UUID"},
		{[]string{"customer", "merge", "a", "handle:whatsapp", "--reason", "r"}, "a handle has a provider"},
		{[]string{"customer", "merge", "a", "E Mail:x", "--reason", "r"}, "want kind:value"},
		{[]string{"customer", "merge", "a", "email:", "--reason", "r"}, "want kind:value"},
		{[]string{"customer", "merge", "a", strings.Repeat("a", 65), "--reason", "r"}, "no id is longer than 64"},
		{split, "say who leaves"},
		{append(slices.Clone(split), "--profiles", " , "), "say who leaves"},
		{append(slices.Clone(split), "--profiles", "p", "--undo", newEvent), "say who leaves"},
		{append(slices.Clone(split), "--undo", "the last one"), "want the id of a merge's event"},
		{append(slices.Clone(split), "--profiles", all(chain(10_001))), "10001 are more than the 10000"},
		{append(slices.Clone(split), "b", "--profiles", "p"), "name one customer, once"},
		{append(slices.Clone(split), "--email", "a@b.c", "--profiles", "p"), "name one customer, once"},
		{[]string{"customer", "split", "--profiles", "p", "--reason", "r"}, "name the customer"},
		{[]string{"customer", "split", "a", "--profiles", "p", "--reason", "r"}, "--yes does it without asking"},
		{[]string{"customer", "explain"}, "name the customer"},
		{[]string{"customer", "explain", "a", "b"}, "name one customer, once"},
		{[]string{"customer", "explain", "--email", "a@b.c", "--phone", "+43"}, "name the customer by one of"},
		{[]string{"customer", "explain", "a", "--limit", "-1"}, "--limit -1"},
		{[]string{"identity", "rules", "sett"}, `did you mean "get" or "set"?`},
		{[]string{"identity", "rules", "get", "x"}, "takes no arguments"},
		{[]string{"identity", "rules", "set", "--reason", "r"}, "--file: name the file"},
		{[]string{"identity", "rules", "set", "--file", "-"}, "--reason"},
		{[]string{"identity", "rules", "set", "--file", "-", "--reason", "r"}, "--yes does it without asking"},
		{[]string{"identity", "rules", "set", "--file", "/nowhere/at/all", "--reason", "r", "--yes"}, "no such file"},
		{[]string{"identity", "block", "--reason", "r"}, "name the identifiers"},
		{[]string{"identity", "block", "acme", "--reason", "r"}, "want kind:value"},
		{[]string{"identity", "block", "phone:+43"}, "--reason"},
		{[]string{"identity", "unblock", "--reason", "r"}, "name the identifiers"},
	} {
		r := run(t, tc.args...)
		require.Equal(t, cli.ExitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.want, "%v", tc.args)
		require.Contains(t, r.stderr, "--help` says how it is used", "%v", tc.args)
		require.Empty(t, r.stdout, "%v", tc.args)
	}
	// A file is no terminal, whatever standard error is.
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer func() { require.NoError(t, null.Close()) }()
	var stderr syncBuffer
	app := &cli.App{
		Stdin: null, Stdout: &syncBuffer{}, Stderr: &stderr, Now: clock, Location: time.UTC, Random: rand.Reader, Terminal: true,
	}
	require.Equal(t, cli.ExitUsage, app.Run(t.Context(), merge))
	require.Contains(t, stderr.String(), "--yes does it without asking")

	set := asking(t, nil, "{}", "identity", "rules", "set", "--file", "-", "--reason", "r")
	require.Equal(t, cli.ExitUsage, set.code)
	require.Contains(t, set.stderr, "standard input has the rules")

	for _, args := range [][]string{{"customer", "merge"}, {"customer", "split"}, {"customer", "explain"}, {"identity", "rules", "set"}, {"identity", "block"}} {
		help := run(t, append(args, "--help")...)
		require.Equal(t, cli.ExitDone, help.code)
		require.Contains(t, help.stdout, "Examples:", args)
	}
}

// chain is a customer of n profiles, each linked with the one before.
func chain(n int) *customerv1.ExplainIdentityResponse {
	g := &customerv1.ExplainIdentityResponse{CustomerId: id("c0")}
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		g.Profiles = append(g.Profiles, &customerv1.ExplainedProfile{ProfileId: id(name), Kind: "anonymous_id", Value: name})
		if i > 0 {
			g.Links = append(g.Links, link(fmt.Sprintf("c%d", i-1), name, 0))
		}
	}
	return g
}

// TestExplainIsBounded: the largest customer, all of him, is still drawn.
func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	p := household()
	p.graphs[id("grace")] = chain(10_000)
	r := runWith(t, "", p.serve(t), "customer", "explain", id("grace"), "--limit", "0")
	require.Equal(t, cli.ExitDone, r.code, r.stderr)
	require.Contains(t, r.stdout, "... and 9968 more; -o json has all")
	longest := slices.MaxFunc(strings.Split(r.stdout, "\n"), func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	require.Less(t, len(longest), 300)
}
