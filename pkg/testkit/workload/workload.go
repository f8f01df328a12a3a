package workload

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// CallsPerSession is the length of a session in calls.
const CallsPerSession = 8

// Options chooses a workload. The zero value of a field stands for its default.
type Options struct {
	// Seed chooses the traffic. Defaults to 1.
	Seed uint64
	// Customers is how many people there are. Defaults to 1000.
	Customers int
	// Concurrent is how many sessions run at once. Defaults to 64.
	Concurrent int
	// Start is the time of the first call. Defaults to 2026-01-05 08:00 UTC.
	Start time.Time
	// Step is the time between two calls, over all sessions. Defaults to 10ms.
	Step time.Duration
	// Prefix begins every identifier and message id, so that two workloads
	// can share one log. Defaults to "w".
	Prefix string
}

// Generator makes calls one after the other, without end: people come back
// once everybody has had a session. Not for concurrent use.
type Generator struct {
	opts     Options
	rng      *rand.Rand
	sessions []session
	started  int // sessions begun so far
	calls    int // calls made so far
	now      time.Time
}

// session is one visit in progress.
type session struct {
	customer int
	ordinal  int // the how-manieth session of all
	done     int // calls made
}

// New returns a generator at its first call.
func New(opts Options) *Generator {
	if opts.Seed == 0 {
		opts.Seed = 1
	}
	if opts.Customers <= 0 {
		opts.Customers = 1000
	}
	if opts.Concurrent <= 0 {
		opts.Concurrent = 64
	}
	opts.Concurrent = min(opts.Concurrent, opts.Customers)
	if opts.Start.IsZero() {
		opts.Start = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
	}
	if opts.Step <= 0 {
		opts.Step = 10 * time.Millisecond
	}
	if opts.Prefix == "" {
		opts.Prefix = "w"
	}
	g := &Generator{opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 0x9e3779b97f4a7c15)), now: opts.Start}
	g.sessions = make([]session, opts.Concurrent)
	for i := range g.sessions {
		g.sessions[i] = g.begin()
	}
	return g
}

// begin starts the next person's session: everybody in turn, so that a
// person's sessions never overlap.
func (g *Generator) begin() session {
	s := session{customer: g.started % g.opts.Customers, ordinal: g.started}
	g.started++
	return s
}

// UserID is the user id of the n-th person.
func (g *Generator) UserID(n int) string { return g.opts.Prefix + "-user-" + strconv.Itoa(n) }

// AnonymousID is the device of the n-th person.
func (g *Generator) AnonymousID(n int) string { return g.opts.Prefix + "-device-" + strconv.Itoa(n) }

// Email is the e-mail address of the n-th person.
func (g *Generator) Email(n int) string {
	return g.opts.Prefix + ".person" + strconv.Itoa(n) + "@customers.example"
}

// Calls is how many calls were made so far.
func (g *Generator) Calls() int { return g.calls }

// AppendCall appends the next call as one JSON object to dst and returns it
// with the number of the person who made it.
func (g *Generator) AppendCall(dst []byte) ([]byte, int) {
	i := g.rng.IntN(len(g.sessions))
	s := &g.sessions[i]
	customer := s.customer
	dst = g.appendStep(dst, *s)
	g.calls++
	g.now = g.now.Add(g.opts.Step)
	s.done++
	if s.done == CallsPerSession {
		*s = g.begin()
	}
	return dst, customer
}

// AppendBatch appends a batch request's body with n calls to dst.
func (g *Generator) AppendBatch(dst []byte, n int) []byte {
	dst = append(dst, `{"batch":[`...)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = g.AppendCall(dst)
	}
	return append(dst, "]}"...)
}

var (
	paths    = []string{"/", "/pricing", "/products/kettle", "/products/teapot", "/checkout", "/help/returns", "/blog/first-flush"}
	products = []string{"kettle", "teapot", "cup", "saucer", "tin of assam", "tin of darjeeling"}
	actions  = []string{"Product Viewed", "Product Added", "Cart Viewed", "Checkout Started", "Article Read"}
)

func (g *Generator) appendStep(dst []byte, s session) []byte {
	id := fmt.Sprintf("%s-%d-%d", g.opts.Prefix, s.ordinal, s.done)
	head := func(kind string) {
		dst = fmt.Appendf(dst, `{"type":%q,"messageId":%q,"timestamp":%q,"anonymousId":%q`,
			kind, id, g.now.Format(time.RFC3339Nano), g.AnonymousID(s.customer))
		if s.done >= 2 {
			dst = fmt.Appendf(dst, `,"userId":%q`, g.UserID(s.customer))
		}
	}
	path := paths[g.rng.IntN(len(paths))]
	context := func() {
		dst = fmt.Appendf(dst, `,"context":{"ip":"192.0.2.%d","locale":"en-GB","page":{"path":%q,"url":"https://shop.example%s"}}}`,
			1+s.customer%250, path, path)
	}
	switch {
	case s.done == 0:
		head("page")
		dst = fmt.Appendf(dst, `,"name":"Shop","properties":{"path":%q,"url":"https://shop.example%s","title":"Tea and what goes with it"}`, path, path)
		context()
	case s.done == 2:
		head("identify")
		dst = fmt.Appendf(dst, `,"traits":{"email":%q,"firstName":"Person","lastName":"Number %d","plan":"basic"}`, g.Email(s.customer), s.customer)
		context()
	case s.done == CallsPerSession-1 && s.ordinal%4 == 0:
		head("track")
		cents := 500 + g.rng.IntN(20_000)
		dst = fmt.Appendf(dst, `,"event":"Order Completed","properties":{"order_id":"%s-order-%d","total":%d.%02d,"currency":"EUR","products":[{"product_id":%q,"quantity":1}]}`,
			g.opts.Prefix, s.ordinal, cents/100, cents%100, products[g.rng.IntN(len(products))])
		context()
	default:
		head("track")
		dst = fmt.Appendf(dst, `,"event":%q,"properties":{"product_id":%q,"price":%d.50,"position":%d}`,
			actions[g.rng.IntN(len(actions))], products[g.rng.IntN(len(products))], 1+g.rng.IntN(80), g.rng.IntN(20))
		context()
	}
	return dst
}
