package serve_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/parleyhq/parley/pkg/blob"
	"github.com/parleyhq/parley/pkg/blob/bloburl"
	"github.com/parleyhq/parley/pkg/event"
	"github.com/parleyhq/parley/pkg/eventstore"
	emailv1 "github.com/parleyhq/parley/proto/gen/parley/email/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
	"github.com/parleyhq/parley/services/parley/internal/serve"
)

// sample is a mail of the public test data.
type sample struct {
	name string // folder and file
	raw  []byte
}

// mailFolders hold the mails under data/email of the shared data.
var mailFolders = []string{"easy_ham", "enmime/testdata/mail", "enmime/testdata/parts", "enmime/testdata/low-quality", "enmime/dsn/testdata"}

// sharedMails reads the mails of the public test data, which lies beside the
// repository unless PARLEY_SHARED_DATA says otherwise.
func sharedMails(t *testing.T) []sample {
	t.Helper()
	root := os.Getenv("PARLEY_SHARED_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "..", "shared", "data")
	}
	var mails []sample
	for _, folder := range mailFolders {
		dir := filepath.Join(root, "email", folder)
		files, err := os.ReadDir(dir)
		if os.IsNotExist(err) {
			t.Skipf("no test data at %s; set PARLEY_SHARED_DATA", dir)
		}
		require.NoError(t, err)
		for _, f := range files {
			raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
			require.NoError(t, err)
			mails = append(mails, sample{name: folder + "/" + f.Name(), raw: raw})
		}
	}
	return mails
}

// deliver sends mails over one connection, in their order.
func deliver(t *testing.T, addr, from, to string, mails []sample) {
	t.Helper()
	c, err := smtp.Dial(addr)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Quit()) }()
	for _, m := range mails {
		require.NoError(t, c.Mail(from), m.name)
		require.NoError(t, c.Rcpt(to), m.name)
		w, err := c.Data()
		require.NoError(t, err, m.name)
		_, err = w.Write(m.raw)
		require.NoError(t, err, m.name)
		require.NoError(t, w.Close(), m.name)
	}
}

// recorded reads the log's interactions.
func recorded(t *testing.T, r *serve.Running, prefix string) []*eventv1.RecordedEvent {
	t.Helper()
	settled(t, r)
	stream, err := feedv1.NewEventServiceClient(dial(t, r.Addresses.GRPC)).Subscribe(t.Context(), &feedv1.SubscribeRequest{
		From: &feedv1.SubscribeRequest_Start{Start: &feedv1.FromStart{}}, StreamPrefixes: []string{prefix},
	})
	require.NoError(t, err)
	var all []*eventv1.RecordedEvent
	for {
		item, err := stream.Recv()
		require.NoError(t, err)
		if item.GetHeartbeat().GetCaughtUp() {
			return all
		}
		if ev := item.GetEvent(); ev != nil {
			all = append(all, ev)
		}
	}
}

// crudeHeader reads a mail's header fields without the gateway's parser.
func crudeHeader(raw []byte) map[string]string {
	fields := map[string]string{}
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	text = strings.TrimLeft(text, "\n")
	if strings.HasPrefix(text, "From ") {
		_, text, _ = strings.Cut(text, "\n")
	}
	head, _, _ := strings.Cut(text, "\n\n")
	head = regexp.MustCompile(`\n[ \t]+`).ReplaceAllString(head, " ")
	for line := range strings.SplitSeq(head, "\n") {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); ok && fields[name] == "" {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

var crudeIDs = regexp.MustCompile(`<([^<>\s]+@[^<>\s]+)>`)

func idsIn(s string) []string {
	var ids []string
	for _, m := range crudeIDs.FindAllStringSubmatch(s, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// sets is union-find over message ids.
type sets map[string]string

func (s sets) root(id string) string {
	for s[id] != "" && s[id] != id {
		id = s[id]
	}
	return id
}

func (s sets) join(a, b string) { s[s.root(a)] = s.root(b) }

// TestRealMails sends every mail of the test data through the whole system,
// twice: none is lost, none doubled, each is in the thread that its headers say.
func TestRealMails(t *testing.T) {
	t.Parallel()
	mails := sharedMails(t)
	s := settings(t)
	s.Mail.Authentication = false // the senders of 2002 are not to be asked for
	r, _ := run(t, s)

	// First in the order in which they were written, as mail mostly comes: where
	// a reply comes before what it answers, and later the mail between the two,
	// the thread may stay in two conversations, since what is recorded stays.
	deliver(t, r.Addresses.SMTP, "sender@example.org", "support@parley.local", mails)
	const senders = 4
	var all sync.WaitGroup
	for i := range senders {
		var part []sample
		for j := i; j < len(mails); j += senders {
			part = append(part, mails[j])
		}
		slices.Reverse(part)
		all.Go(func() { deliver(t, r.Addresses.SMTP, "sender@example.org", "support@parley.local", part) })
	}
	all.Wait()
	events := recorded(t, r, "email-")
	// Another mail under an id that is taken is kept apart: some samples share one.
	sharers := map[string]int{}
	nameless := map[string]bool{}
	for _, m := range mails {
		if ids := idsIn(crudeHeader(m.raw)["message-id"]); len(ids) > 0 {
			sharers[ids[0]]++
		} else if crudeHeader(m.raw)["message-id"] == "" && !strings.HasPrefix(m.name, "enmime/dsn/") {
			nameless[strings.Join(strings.Fields(string(m.raw)), " ")] = true
		}
	}
	apart := map[string]bool{}
	for _, body := range quarantined(t, r) {
		ev := &eventv1.Event{}
		require.NoError(t, proto.Unmarshal(body.GetBody(), ev))
		require.Equal(t, "content_differs", body.GetCode(), body.GetReason())
		require.Greater(t, sharers[ev.GetSourceId()], 1, "%s is nobody else's", ev.GetSourceId())
		apart[ev.GetSourceId()+string(ev.GetContentDigest())] = true
	}

	counts := map[string]int{}
	byID := map[string]*eventv1.RecordedEvent{}
	for _, ev := range events {
		e := ev.GetEvent()
		counts[e.GetType()]++
		require.Equal(t, "default", e.GetTenant())
		require.NotContains(t, byID, e.GetSourceId(), "doubled")
		byID[e.GetSourceId()] = ev
		if p := e.GetPayload().GetEmailReceived(); p != nil {
			counts["without a Message-ID"] += one(strings.HasSuffix(p.GetMessageId(), "@derived.invalid"))
			counts["text"] += one(strings.TrimSpace(p.GetText()) != "")
			counts["attachments"] += len(p.GetAttachments())
			counts["auto_reply"] += one(p.GetAutoReply())
			counts["list"] += one(p.GetListId() != "")
			counts["with defects"] += one(len(p.GetDefects()) > 0)
			require.NotEmpty(t, p.GetRawBlob())
			require.Equal(t, "support@parley.local", p.GetMailbox())
		}
	}

	// None is lost, and none has silently lost its text.
	threads, distinct := sets{}, map[string]bool{}
	conversation := map[string]string{}
	for _, m := range mails {
		head := crudeHeader(m.raw)
		own := idsIn(head["message-id"])
		if strings.HasPrefix(m.name, "enmime/dsn/") {
			continue // its events are of the recipients
		}
		if len(own) == 0 {
			continue // counted by their content below
		}
		id := own[0]
		distinct[id] = true
		ev := byID[id]
		require.NotNil(t, ev, "%s: lost", m.name)
		p := ev.GetEvent().GetPayload().GetEmailReceived()
		require.NotNil(t, p, m.name)
		if strings.HasPrefix(m.name, "easy_ham/") {
			require.NotEmpty(t, strings.TrimSpace(p.GetText()), "%s: no text", m.name)
		}
		conversation[id] = ev.GetEvent().GetConversation()
		for _, other := range append(idsIn(head["in-reply-to"]), idsIn(head["references"])...) {
			threads.join(id, other)
		}
	}

	// Who is in one thread by the headers is in one conversation, and the other way about.
	inThread, inConversation := map[string][]string{}, map[string][]string{}
	for id := range distinct {
		inThread[threads.root(id)] = append(inThread[threads.root(id)], id)
		inConversation[conversation[id]] = append(inConversation[conversation[id]], id)
	}
	split, together := 0, 0
	for _, ids := range inThread {
		seen := map[string]bool{}
		for _, id := range ids {
			seen[conversation[id]] = true
		}
		if len(seen) > 1 {
			split++
			t.Logf("one thread in %d conversations: %v", len(seen), ids)
		}
	}
	for _, ids := range inConversation {
		seen := map[string]bool{}
		for _, id := range ids {
			seen[threads.root(id)] = true
		}
		if len(seen) > 1 {
			together++
			t.Logf("%d threads in one conversation: %v", len(seen), ids)
		}
	}

	var table strings.Builder
	fmt.Fprintf(&table, "\n%-36s %6d, each sent twice\n%-36s %6d\n%-36s %6d\n", "mails", len(mails), "events", len(events),
		"other mails under a taken id", len(apart))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&table, "%-36s %6d\n", name, counts[name])
	}
	fmt.Fprintf(&table, "%-36s %6d\n%-36s %6d\n%-36s %6d\n%-36s %6d\n", "Message-IDs", len(distinct), "threads by the headers", len(inThread),
		"threads in several conversations", split, "conversations of several threads", together)
	t.Log(table.String())
	require.Zero(t, together, "strangers in one conversation")
	require.Zero(t, split, "one thread in several conversations")
	require.Equal(t, len(nameless), counts["without a Message-ID"])
	require.Equal(t, 5, reportsOf(mails))
	require.Positive(t, counts["parley.email.bounced"])
	require.GreaterOrEqual(t, len(events), len(distinct)+5)
}

func reportsOf(mails []sample) int {
	n := 0
	for _, m := range mails {
		n += one(bytes.Contains(m.raw, []byte("message/delivery-status")))
	}
	return n
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// quarantined reads the quarantine.
func quarantined(t *testing.T, r *serve.Running) []*interactionv1.QuarantinedBody {
	t.Helper()
	settled(t, r)
	var all []*interactionv1.QuarantinedBody
	for rec, err := range r.Log().ReadAll(t.Context(), eventstore.ReadAllOptions{}) {
		require.NoError(t, err)
		if rec.Type != event.TypeQuarantine {
			continue
		}
		body := &interactionv1.QuarantinedBody{}
		require.NoError(t, proto.Unmarshal(rec.Data, body))
		all = append(all, body)
	}
	return all
}

// TestMailByWebhookAndSMTPIsOne sends one mail by a vendor and by SMTP.
func TestMailByWebhookAndSMTPIsOne(t *testing.T) {
	t.Parallel()
	s := settings(t)
	s.Mail.Authentication = false
	s.Mail.PostmarkUser, s.Mail.PostmarkPassword = "pm", "pm secret"
	r, stop := run(t, s)
	raw := "From: ada@customer.example\r\nTo: support@parley.local\r\nMessage-ID: <w1@customer.example>\r\nDate: Thu, 12 Mar 2026 10:00:00 +0000\r\n\r\nHello\r\n"
	body, err := json.Marshal(map[string]any{
		"MessageID": "pm-1", "OriginalRecipient": "support@parley.local", "FromFull": map[string]string{"Email": "ada@customer.example"}, "RawEmail": raw,
	})
	require.NoError(t, err)
	hook := func(password string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addresses.HTTP+"/v1/mail/postmark", bytes.NewReader(body))
		require.NoError(t, err)
		req.SetBasicAuth("pm", password)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusUnauthorized, hook("wrong"))
	require.Equal(t, http.StatusOK, hook("pm secret"))
	deliver(t, r.Addresses.SMTP, "ada@customer.example", "support+c-x@parley.local", []sample{{"w1", []byte(raw)}})
	require.Equal(t, http.StatusOK, post(t, "http://"+r.Addresses.HTTP+"/v1/track", `{"userId":"u1","event":"Hello","messageId":"m1"}`), "the tracking API is beside it")
	http.DefaultClient.CloseIdleConnections()
	events := recorded(t, r, "email-")
	require.Len(t, events, 1)
	require.Empty(t, quarantined(t, r))
	p := events[0].GetEvent().GetPayload().GetEmailReceived()
	require.Equal(t, "Hello", p.GetText())

	// The raw mail can be read beside the store, also by the next process.
	require.NoError(t, stop())
	store, err := bloburl.Open(t.Context(), filepath.Join(s.Storage.DataDir, "blobs"), bloburl.Options{})
	require.NoError(t, err)
	vault, err := blob.NewVault(store, []byte("reading needs no secret"), blob.Options{})
	require.NoError(t, err)
	ref, err := blob.ParseRef(p.GetRawBlob())
	require.NoError(t, err)
	content, err := vault.Open(t.Context(), serve.DefaultTenant, ref)
	require.NoError(t, err)
	kept, err := io.ReadAll(content)
	require.NoError(t, err)
	require.Equal(t, raw, string(kept))
	require.NoError(t, content.Close())
	require.NoError(t, store.Close())
}

// TestMailOfAProcessOfItsOwn takes mail in a process that has nothing but NATS.
func TestMailOfAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	behind, _ := run(t, settings(t), "recorder", "customer", "feed")
	require.Empty(t, behind.Addresses.SMTP)
	front := settings(t)
	front.NATS.URL, front.NATS.Replicas = "nats://"+behind.Addresses.NATS, 1
	front.Mail.Authentication = false
	front.Blobs.URL, front.Blobs.Secret = t.TempDir(), "the same everywhere"
	gateway, _ := run(t, front, "email")
	require.Empty(t, gateway.Addresses.HTTP, "no webhook is configured")
	require.NoDirExists(t, front.Storage.DataDir, "a gateway keeps nothing")
	raw := []byte("From: ada@customer.example\r\nMessage-ID: <apart@customer.example>\r\n\r\nHello\r\n")
	deliver(t, gateway.Addresses.SMTP, "ada@customer.example", "support@parley.local", []sample{{"apart", raw}})
	require.Len(t, recorded(t, behind, "email-"), 1)

	// And imports them.
	stream, err := emailv1.NewEmailServiceClient(dial(t, gateway.Addresses.GRPC)).ImportMails(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&emailv1.ImportMailsRequest{Number: 1, Data: raw, Last: true}))
	resp, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, emailv1.ImportOutcome_IMPORT_OUTCOME_DUPLICATE, resp.GetOutcome())
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

// TestLargeMail sends an attachment of 20 MB.
func TestLargeMail(t *testing.T) {
	t.Parallel()
	s := settings(t)
	s.Mail.Authentication = false
	r, _ := run(t, s)
	content := make([]byte, 20_000_000)
	_, err := rand.Read(content)
	require.NoError(t, err)
	encoded := base64.StdEncoding.EncodeToString(content)
	var raw bytes.Buffer
	raw.WriteString("From: ada@customer.example\r\nMessage-ID: <large@customer.example>\r\nContent-Type: application/pdf; name=big.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(encoded) > 0 {
		n := min(76, len(encoded))
		raw.WriteString(encoded[:n] + "\r\n")
		encoded = encoded[n:]
	}
	deliver(t, r.Addresses.SMTP, "ada@customer.example", "support@parley.local", []sample{{"large", raw.Bytes()}})
	events := recorded(t, r, "email-")
	require.Len(t, events, 1)
	p := events[0].GetEvent().GetPayload().GetEmailReceived()
	require.EqualValues(t, raw.Len(), p.GetSizeBytes())
	require.EqualValues(t, len(content), p.GetAttachments()[0].GetSizeBytes())
}
