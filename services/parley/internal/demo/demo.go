package demo

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// day has one HTTP request a line: the call, and its body.
//
//go:embed day.jsonl
var day []byte

// Played is what came of playing the day.
type Played struct {
	// Requests made and calls in them.
	Requests, Calls int
	// Took is how long it took.
	Took time.Duration
}

// request is one line of the day.
type request struct {
	Call string          `json:"call"`
	Body json.RawMessage `json:"body"`
}

// requestTimeout bounds one request; the gateway answers within milliseconds.
const requestTimeout = 20 * time.Second

// Play sends the day to the tracking API at a URL, in order.
func Play(ctx context.Context, url, writeKey string) (Played, error) {
	var played Played
	began := time.Now()
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for r, err := range requests() {
		if err != nil {
			return played, err
		}
		accepted, err := send(ctx, client, url, writeKey, r)
		if err != nil {
			return played, fmt.Errorf("play request %d of the day: %w", played.Requests+1, err)
		}
		played.Requests++
		played.Calls += accepted
	}
	played.Took = time.Since(began)
	return played, nil
}

// requests are the day's, in order.
func requests() func(yield func(request, error) bool) {
	return func(yield func(request, error) bool) {
		const longest = 1 << 20
		lines := bufio.NewScanner(bytes.NewReader(day))
		lines.Buffer(nil, longest)
		for lines.Scan() {
			var r request
			err := json.Unmarshal(lines.Bytes(), &r)
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(request{}, fmt.Errorf("read the day: %w", err))
		}
	}
}

func send(ctx context.Context, client *http.Client, url, writeKey string, r request) (accepted int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/"+r.Call, bytes.NewReader(r.Body))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(writeKey, "")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	const mostAnswer = 64 << 10
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, err
	}
	var answer struct {
		Accepted int               `json:"accepted"`
		Rejected []json.RawMessage `json:"rejected"`
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || len(answer.Rejected) > 0 {
		return 0, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return answer.Accepted, nil
}

// sight is something to look at, and why.
type sight struct{ command, why string }

var sights = []sight{
	{"customer get --email ada@example.com", "came by an ad, signed up, ordered; came back on her phone and ordered again"},
	{"customer timeline --email ada@example.com", "her day, with what she did before anybody knew her"},
	{"customer get --user-id u-1006", "an order and a refund, a campaign"},
	{"customer get --user-id u-1002", "with a colleague in one organisation; the shared mailbox links nobody"},
	{"customer get --email sam.carter@example.com", "shares a browser with Noor: two user ids stay two customers"},
	{"customer get --anonymous-id b-elif-work", "browsed at work, ordered at home: one customer since the evening"},
	{"customer find okafor", "part of a name, an address, a number or an order"},
	{"events tail --from start --type 'parley.order.*' --no-follow", "every order of the day"},
	{"send --type page --user-id u-1001 --set path=/hello", "add an interaction yourself; events tail shows it come"},
}

const defaultAddr = "127.0.0.1:7300"

// Guide says what there is to see: program is how the binary is called, addr
// where its gRPC is.
func Guide(program, addr string, played Played) string {
	var b strings.Builder
	fmt.Fprintf(&b, "A day of a coffee shop's traffic is in: %d calls of 12 people in %d requests, played in %s.\n\nLook at:\n",
		played.Calls, played.Requests, played.Took.Round(time.Millisecond))
	suffix := ""
	if addr != defaultAddr {
		suffix = " --addr " + addr
	}
	for _, s := range sights {
		fmt.Fprintf(&b, "\n  # %s\n  %s %s%s\n", s.why, program, s.command, suffix)
	}
	b.WriteString("\nIt stays up; Ctrl-C stops it. Playing the day again changes nothing.\n")
	return b.String()
}
