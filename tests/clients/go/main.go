// franz-go and sarama, told what to do by lines of JSON on stdin, as tests/java/Clients.java is: {"op": ..., "bootstrap":
// ..., ...}. Answers a line each: {"result": ...} or {"error": name, "message": text}; before it, {"progress": count}
// where asked. `clients member CLIENT '<json>'` is a member of a group, as tests/clients/member.py says; `clients pipeline
// ...` moves records in transactions, as pipeline.go says.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	step             = 20
	deliveryTimeout  = 60 * time.Second
	operationTimeout = 30 * time.Second
	largestLine      = 64 << 20
	// The broker says what is too large, not the client.
	maxMessageBytes = 20_000_000
)

type record struct {
	Key       *string     `json:"key"`
	Value     *string     `json:"value"`
	Headers   [][]*string `json:"headers"`
	Timestamp *int64      `json:"timestamp"`
}

type stored struct {
	Offset int64 `json:"offset"`
	record
}

type asked struct {
	Op              string            `json:"op"`
	Bootstrap       string            `json:"bootstrap"`
	Watched         bool              `json:"watched"`
	Topic           string            `json:"topic"`
	Partition       int32             `json:"partition"`
	Partitions      json.RawMessage   `json:"partitions"`
	Codec           string            `json:"codec"`
	Idempotent      bool              `json:"idempotent"`
	Records         []record          `json:"records"`
	Start           *int64            `json:"start"`
	Count           int               `json:"count"`
	Timestamp       int64             `json:"timestamp"`
	TransactionalID string            `json:"transactional_id"`
	Configs         map[string]string `json:"configs"`
	Total           int               `json:"total"`
	Name            string            `json:"name"`
	Value           string            `json:"value"`
	Before          int64             `json:"before"`
	Spec            string            `json:"spec"`
	Group           string            `json:"group"`
	Offsets         map[int32]int64   `json:"offsets"`
}

type orders struct {
	Bootstrap        string  `json:"bootstrap"`
	Group            string  `json:"group"`
	Topic            string  `json:"topic"`
	Assignor         string  `json:"assignor"`
	ClientID         string  `json:"client_id"`
	SessionTimeoutMs int     `json:"session_timeout_ms"`
	InstanceID       *string `json:"instance_id"`
	AutoCommit       bool    `json:"auto_commit"`
}

func (o *orders) sessionTimeout() time.Duration {
	return time.Duration(o.SessionTimeoutMs) * time.Millisecond
}

func (o *orders) heartbeatInterval() time.Duration {
	return max(o.sessionTimeout()/10, 50*time.Millisecond)
}

type client interface {
	produce(*asked) ([][3]*int64, error)
	read(*asked) ([]stored, error)
	administer(*asked) (any, error)
	transact(*asked) error
	// Runs until it has left; commands come by the channel, whose end means `leave`.
	member(*orders, <-chan string) error
}

var clients = map[string]client{"franz-go": franz{}, "sarama": saramaClient{}}

// --- lines -----------------------------------------------------------------------------------------------------------

type told map[string]any

var saying sync.Mutex

func say(what any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	saying.Lock()
	defer saying.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func data(text *string) []byte {
	if text == nil {
		return nil
	}
	bytes, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		panic(err)
	}
	return bytes
}

func text(data []byte) *string {
	if data == nil {
		return nil
	}
	encoded := base64.StdEncoding.EncodeToString(data)
	return &encoded
}

// The protocol's name of what the broker said, wherever it stands in the error.
func nameOf(err error) string {
	var many sarama.ProducerErrors
	if errors.As(err, &many) && len(many) > 0 {
		err = many[0].Err
	}
	var fromSarama sarama.KError
	if errors.As(err, &fromSarama) {
		err = kerr.ErrorForCode(int16(fromSarama))
	}
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return fmt.Sprintf("%T", err)
}

func run(client client, asked *asked) (any, error) {
	switch asked.Op {
	case "produce":
		return client.produce(asked)
	case "read":
		return client.read(asked)
	case "transact":
		return nil, client.transact(asked)
	}
	return client.administer(asked)
}

func lines() *bufio.Scanner {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(nil, largestLine)
	return scanner
}

func serve(client client) {
	scanner := lines()
	for scanner.Scan() {
		var one asked
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			panic(err)
		}
		result, err := run(client, &one)
		if err != nil {
			say(told{"error": nameOf(err), "message": err.Error()})
		} else {
			say(told{"result": result})
		}
	}
}

// --- a member of a group ---------------------------------------------------------------------------------------------

// What a member owns, and how far each partition has been read: what a commit means.
type owned struct {
	sync.Mutex
	positions map[int32]int64
	read      map[int32]bool
}

func newOwned() *owned {
	return &owned{positions: map[int32]int64{}, read: map[int32]bool{}}
}

func (o *owned) assigned(partitions ...int32) {
	o.Lock()
	defer o.Unlock()
	for _, partition := range partitions {
		o.positions[partition] = 0
	}
	all := []int32{}
	for partition := range o.positions {
		all = append(all, partition)
	}
	slices.Sort(all)
	say(told{"event": "assigned", "partitions": all})
}

func (o *owned) revoked(partitions ...int32) {
	o.Lock()
	defer o.Unlock()
	for _, partition := range partitions {
		delete(o.positions, partition)
		delete(o.read, partition)
	}
	say(told{"event": "revoked", "partitions": partitions})
}

func (o *owned) received(partition int32, offset int64, value []byte) {
	o.Lock()
	defer o.Unlock()
	if _, ours := o.positions[partition]; !ours {
		return
	}
	o.positions[partition], o.read[partition] = offset+1, true
	say(told{"event": "records", "records": [][]any{{partition, offset, string(value)}}})
}

// What has been read of the partitions it owns.
func (o *owned) offsets() map[int32]int64 {
	o.Lock()
	defer o.Unlock()
	found := map[int32]int64{}
	for partition := range o.read {
		found[partition] = o.positions[partition]
	}
	return found
}

func sayError(err error) {
	say(told{"event": "error", "message": nameOf(err) + ": " + err.Error()})
}

func member(client client, text string) {
	var orders orders
	if err := json.Unmarshal([]byte(text), &orders); err != nil {
		panic(err)
	}
	commands := make(chan string)
	go func() {
		scanner := lines()
		for scanner.Scan() {
			commands <- strings.TrimSpace(scanner.Text())
		}
		close(commands)
	}()
	if err := client.member(&orders, commands); err != nil {
		sayError(err)
		os.Exit(1)
	}
	say(told{"event": "left"})
}

func main() {
	if os.Args[1] == "member" {
		member(clients[os.Args[2]], os.Args[3])
		return
	}
	if os.Args[1] == "pipeline" {
		runPipeline(os.Args[2:])
		return
	}
	serve(clients[os.Args[1]])
}
