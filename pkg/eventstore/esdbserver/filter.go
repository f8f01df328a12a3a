package esdbserver

import (
	"regexp"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/parleyhq/parley/pkg/eventstore"
)

// Bounds on a client's filter.
const (
	maxPrefixes   = 1000
	maxRegexBytes = 4096
	// defaultWindow is EventStoreDB's search window where a client leaves it
	// to the server.
	defaultWindow = 32
)

// filter chooses events of $all by what clients call their streams and types.
type filter struct {
	// store is what the store can choose by itself.
	store eventstore.Filter
	// What it cannot is looked at here.
	onType   bool
	prefixes []string
	regex    *regexp.Regexp
	// interval is the number of positions between checkpoints; 0 for none.
	interval uint64
}

// newFilter checks a client's filter; nil stands for all events.
func newFilter(o *streams.ReadReq_Options_FilterOptions, subscription bool) (*filter, error) {
	f := &filter{}
	if o == nil {
		return f, nil
	}
	var expression *streams.ReadReq_Options_FilterOptions_Expression
	switch o.GetFilter().(type) {
	case *streams.ReadReq_Options_FilterOptions_EventType:
		f.onType, expression = true, o.GetEventType()
	case *streams.ReadReq_Options_FilterOptions_StreamIdentifier:
		expression = o.GetStreamIdentifier()
	default:
		return nil, invalidArgument("filter by neither stream nor event type")
	}
	if err := f.expression(expression); err != nil {
		return nil, err
	}
	if !subscription {
		return f, nil
	}
	window := uint64(defaultWindow)
	switch o.GetWindow().(type) {
	case *streams.ReadReq_Options_FilterOptions_Max:
		window = uint64(o.GetMax())
	case *streams.ReadReq_Options_FilterOptions_Count:
	default:
		return nil, invalidArgument("filter without a window: want max or count")
	}
	if f.interval = window * uint64(o.GetCheckpointIntervalMultiplier()); f.interval == 0 {
		return nil, invalidArgument("filter's window and checkpoint interval multiplier must be at least 1")
	}
	return f, nil
}

func (f *filter) expression(x *streams.ReadReq_Options_FilterOptions_Expression) error {
	prefixes, pattern := x.GetPrefix(), x.GetRegex()
	switch {
	case pattern == "" && len(prefixes) == 0:
		return invalidArgument("filter with neither a prefix nor a regular expression")
	case pattern != "" && len(prefixes) > 0:
		return invalidArgument("filter with both prefixes and a regular expression: use one of them")
	case len(prefixes) > maxPrefixes:
		return invalidArgument("filter with %d prefixes, at most %d", len(prefixes), maxPrefixes)
	case len(pattern) > maxRegexBytes:
		return invalidArgument("filter's regular expression has %d bytes, at most %d", len(pattern), maxRegexBytes)
	case pattern != "":
		regex, err := regexp.Compile(pattern)
		if err != nil {
			return invalidArgument("filter's regular expression (RE2 syntax): %v", err)
		}
		f.regex = regex
		return nil
	}
	if f.onType {
		f.prefixes = prefixes
		return nil
	}
	for _, p := range prefixes {
		if p == "" {
			// Every stream begins with nothing.
			f.store.StreamPrefixes = nil
			return nil
		}
		f.store.StreamPrefixes = append(f.store.StreamPrefixes, inside(p))
	}
	return nil
}

// restrict leaves a tenant's streams and their metadata only.
func (f *filter) restrict(tenant string) {
	if tenant == "" {
		return
	}
	if len(f.store.StreamPrefixes) > 0 {
		f.prefixes = make([]string, len(f.store.StreamPrefixes))
		for i, p := range f.store.StreamPrefixes {
			f.prefixes[i] = outside(p)
		}
	}
	own := tenant + "."
	f.store.StreamPrefixes = []string{own, metaStream(own)}
}

// matches is asked of records that the store has chosen.
func (f *filter) matches(r *eventstore.Record) bool {
	if f.regex == nil && len(f.prefixes) == 0 {
		return true
	}
	name := r.Stream
	if f.onType {
		name = r.Type
	}
	name = outside(name)
	if f.regex != nil {
		return f.regex.MatchString(name)
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// all says that the store chooses everything by itself.
func (f *filter) all() bool { return f.regex == nil && len(f.prefixes) == 0 }
