package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
)

// ParseMessageIDs gives the message ids of a Message-ID, In-Reply-To or
// References field in their order, each once, without angle brackets, at most
// MaxIDBytes long. It reads what is met: comments, quotes, commas, missing or
// double brackets, ids broken by folding, and prose between the ids; an address
// in prose (`Message from A <a@x> of Monday`) is none. Where no id stands in
// brackets, words with an at sign are taken.
func ParseMessageIDs(s string) []string {
	if s == "" {
		return nil
	}
	if strings.IndexByte(s, '<') < 0 {
		return bareIDs(s)
	}
	var ids idList
	for s != "" {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			break
		}
		prose := s[:open]
		s = strings.TrimLeft(s[open:], "<")
		end := strings.IndexAny(s, "<>")
		if end < 0 {
			// Not closed: a word.
			if words := strings.Fields(s); len(words) > 0 {
				at := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "@") })
				ids.add(words[max(at, 0)], prose)
			}
			break
		}
		ids.add(s[:end], prose)
		s = strings.TrimLeft(s[end:], ">")
	}
	return ids.list
}

type idList struct {
	list []string
	seen map[string]struct{}
}

// add takes an id that stands behind prose, unless the prose makes it the
// address of a sender: `Message from Robert Elz <kre@x>`.
func (l *idList) add(id, prose string) {
	words := strings.Fields(prose)
	for i := len(words) - 1; i >= max(0, len(words)-6); i-- {
		if strings.EqualFold(words[i], "of") {
			break
		}
		if strings.EqualFold(words[i], "from") {
			return
		}
	}
	if strings.ContainsAny(id, " \t\"") {
		id = strings.Join(strings.Fields(strings.ReplaceAll(id, `"`, "")), "")
	}
	if id == "" || len(id) > MaxIDBytes {
		return
	}
	if _, ok := l.seen[id]; ok {
		return
	}
	if l.seen == nil {
		l.seen = map[string]struct{}{}
	}
	l.seen[id] = struct{}{}
	l.list = append(l.list, id)
}

func bareIDs(s string) []string {
	var (
		ids  idList
		last string
	)
	for word := range strings.FieldsFuncSeq(stripComments(s), func(r rune) bool {
		return r == ' ' || r == '\t' || r == ',' || r == ';' || r == '"' || r == '\''
	}) {
		word = strings.Trim(word, "<>[].:")
		if at := strings.IndexByte(word, '@'); at > 0 && at < len(word)-1 {
			ids.add(word, last)
		}
		last = word
	}
	return ids.list
}

// boundReferences keeps the first id, which is the root of the thread, and the
// last ones.
func boundReferences(ids []string) []string {
	if len(ids) <= MaxReferences {
		return ids
	}
	kept := make([]string, 0, MaxReferences)
	kept = append(kept, ids[0])
	return append(kept, ids[len(ids)-MaxReferences+1:]...)
}

// authored are the fields that the author's program writes and relays leave
// alone. Comparing only these and the body makes two deliveries one mail.
var authored = []string{"from", "sender", "reply-to", "to", "cc", "subject", "date", "in-reply-to", "references", "mime-version", "content-type"}

// derivedSuffix ends derived ids; nobody can own the domain (RFC 2606).
const derivedSuffix = "@derived.invalid"

// deriveID makes an id of what the author sent: the authored fields with white
// space as one space, and the body with LF at the end of lines and without empty
// lines at its end. 160 bits of SHA-256.
func deriveID(h *header, body []byte) string {
	sum := sha256.New()
	for _, name := range authored {
		for _, value := range h.raw(name) {
			writeHashed(sum, []byte(name))
			writeHashed(sum, bytes.Join(bytes.Fields(value), []byte{' '}))
		}
	}
	writeHashed(sum, []byte("body"))
	for body = bytes.TrimRight(body, " \t\r\n"); len(body) > 0; {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		_, _ = sum.Write(bytes.TrimRight(line, "\r"))
		_, _ = sum.Write([]byte{'\n'})
		body = rest
	}
	return hex.EncodeToString(sum.Sum(nil)[:20]) + derivedSuffix
}

func writeHashed(sum hash.Hash, b []byte) {
	_, _ = sum.Write(b)
	_, _ = sum.Write([]byte{0})
}
