package auth

import (
	"context"
	"strings"

	"github.com/emersion/go-msgauth/dmarc"
)

// findRecord finds the DMARC record of a domain, or of its organisation
// (RFC 7489, 6.6.3).
func findRecord(ctx context.Context, l *lookups, domain string) record {
	places := []string{domain}
	if org := organisation(domain); org != domain {
		places = append(places, org)
	}
	for i, place := range places {
		txts, err := l.LookupTXT(ctx, "_dmarc."+place)
		if err != nil && !isNotFound(err) {
			return record{state: recordUnknown, method: Method{Value: ValueTempError, Detail: cause(err)}}
		}
		var found []string
		for _, txt := range txts {
			if isDMARC(txt) {
				found = append(found, txt)
			}
		}
		if len(found) > 1 {
			return record{state: recordAbsent, method: Method{Value: ValuePermError, Detail: "several DMARC records"}}
		}
		if len(found) == 1 {
			return readRecord(found[0], i > 0)
		}
	}
	return record{state: recordAbsent, method: Method{Value: ValueNone}}
}

// isDMARC tells the records that begin with the version; others are passed over.
func isDMARC(txt string) bool {
	first, _, _ := strings.Cut(txt, ";")
	key, version, ok := strings.Cut(first, "=")
	return ok && strings.TrimSpace(key) == "v" && strings.TrimSpace(version) == "DMARC1"
}

// readRecord reads what counts here of a record. Tags that are unknown or of no
// use are left out before, since their faults must not matter (RFC 7489, 6.3).
func readRecord(txt string, ofOrganisation bool) record {
	kept := []string{"v=DMARC1"}
	reports, policy := false, false
	for tag := range strings.SplitSeq(txt, ";") {
		key, value, _ := strings.Cut(tag, "=")
		key, value = lowerASCII(strings.TrimSpace(key)), lowerASCII(strings.TrimSpace(value))
		switch key {
		case "p", "sp":
			if value != "none" && value != "quarantine" && value != "reject" {
				continue
			}
			policy = policy || key == "p"
		case "adkim", "aspf":
			if value != "r" && value != "s" {
				continue
			}
		case "rua":
			reports = reports || value != ""
			continue
		default:
			continue
		}
		kept = append(kept, key+"="+value)
	}
	if !policy && reports {
		kept = append(kept, "p=none")
	}
	parsed, err := dmarc.Parse(strings.Join(kept, ";"))
	if err != nil {
		return record{state: recordAbsent, method: Method{Value: ValuePermError, Detail: "no valid DMARC record"}}
	}
	r := record{
		state:      recordPresent,
		strictDKIM: parsed.DKIMAlignment == dmarc.AlignmentStrict,
		strictSPF:  parsed.SPFAlignment == dmarc.AlignmentStrict,
		method:     Method{Policy: string(parsed.Policy)},
	}
	if ofOrganisation && parsed.SubdomainPolicy != "" {
		r.method.Policy = string(parsed.SubdomainPolicy)
	}
	return r
}
