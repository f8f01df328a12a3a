// Package load drives a running Parley through its front door with the seeded
// workload, for crash tests and measurements. It is bounded: it ends with its
// context or with its last call.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleyhq/parley/pkg/testkit/workload"
)

// BatchSize is how many calls a request carries.
const BatchSize = 20

// Sender posts batches to a gateway over kept connections. Safe for
// concurrent use.
type Sender struct {
	url    string
	client *http.Client
}

// NewSender returns a sender to the gateway at an address, with the given
// number of connections kept. Close it.
func NewSender(address string, connections int) *Sender {
	return &Sender{
		url: "http://" + address + "/v1/batch",
		client: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections},
		},
	}
}

// ErrNotAcknowledged is an answer other than 200: the batch may or may not have been taken.
var ErrNotAcknowledged = errors.New("not acknowledged")

// Send posts one body and returns nil once it is acknowledged.
func (s *Sender) Send(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.SetBasicAuth("dev", "")
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("send a batch: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the answer to a batch: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s: %s", ErrNotAcknowledged, response.Status, answer)
	}
	return nil
}

// Close lets go of the connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Batch is a request's body and the message ids in it.
type Batch struct {
	Body []byte
	IDs  []string
}

// Source hands out the workload in batches. Safe for concurrent use.
type Source struct {
	mu  sync.Mutex
	gen *workload.Generator
}

// NewSource returns a source at the first call of a workload.
func NewSource(opts workload.Options) *Source {
	return &Source{gen: workload.New(opts)}
}

// Next makes the next batch of BatchSize calls in dst's memory.
func (s *Source) Next(dst Batch) Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ids := dst.Body[:0], dst.IDs[:0]
	body = append(body, `{"batch":[`...)
	for i := range BatchSize {
		if i > 0 {
			body = append(body, ',')
		}
		begin := len(body)
		body, _ = s.gen.AppendCall(body)
		ids = append(ids, messageID(body[begin:]))
	}
	return Batch{Body: append(body, "]}"...), IDs: ids}
}

func messageID(call []byte) string {
	_, rest, _ := bytes.Cut(call, []byte(`"messageId":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(id)
}

// Run sends batches with the given number of workers until calls were sent or
// ctx ends, and reports every acknowledged batch; acknowledged is called from
// several goroutines. A batch that was not acknowledged is given up, and counted.
func Run(ctx context.Context, sender *Sender, source *Source, workers, calls int, acknowledged func(Batch)) (failed int64) {
	var left, lost atomic.Int64
	left.Store(int64(calls))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var batch Batch
			for ctx.Err() == nil && left.Add(-BatchSize) >= 0 {
				batch = source.Next(batch)
				if err := sender.Send(ctx, batch.Body); err != nil {
					lost.Add(1)
					continue
				}
				acknowledged(batch)
			}
		})
	}
	wg.Wait()
	return lost.Load()
}
