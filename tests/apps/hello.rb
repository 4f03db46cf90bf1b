# A plain server: a thread a connection, each answered once.
require "socket"

version = ENV["VERSION"] || (File.read("VERSION").strip rescue "v1")
server = TCPServer.new(ENV["HOST"] || "0.0.0.0", Integer(ARGV[0] || ENV["PORT"] || 3000))
body = "#{version} #{Process.pid}\n"
loop do
  Thread.new(server.accept) do |client|
    nil until (line = client.gets).nil? || line == "\r\n"
    client.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
    client.close
  end
end
